"""int8: static quantisation of the network inside a graph, calibrated on real pictures; the sensitive stays fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import RunError
from maskwright.export.graph import in_network
from maskwright.predict.backends import INPUT
from maskwright.tensors import Picture

QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Where the time goes. What lies between them (additions, activations) takes part where the runtime fuses it."""


def quantise(model: Any, pictures: Sequence[Picture], keep: Sequence[str] = ()) -> Any:
    """A ModelProto whose network computes in 8 bits, but for the nodes called `keep`.

    Weights are signed, per output channel; activations unsigned, by their range on `pictures` (HWC uint8, each alone at
    its own size). Written as QuantizeLinear and DequantizeLinear pairs, which ONNX Runtime and OpenVINO both fuse.
    Raises RunError where ONNX Runtime cannot.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    kept = set(keep)
    chosen = [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTISED and in_network(node.name) and node.name not in kept
    ]
    import onnx

    with tempfile.TemporaryDirectory(prefix="maskwright-") as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            quantize_static(
                source,
                target,
                _Pictures(pictures),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                nodes_to_quantize=chosen,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": False, "CalibMovingAverage": True},
            )
        except Exception as error:  # its own shape inference and sessions fail in many ways
            raise RunError(
                f"the network cannot be quantised: {' '.join(str(error).split())[:300]}",
                "export it with --precision fp32, or --format openvino --precision bf16",
            ) from error
        return onnx.load(target)


def sensitive(model: Any, quantised: Any, pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Names of the quantised nodes, worst first: by the signal-to-noise ratio of what they put out, against fp32."""
    import onnx
    from onnxruntime.quantization import qdq_loss_debug as debug

    with tempfile.TemporaryDirectory(prefix="maskwright-") as folder:
        found = []
        for number, graph in enumerate((model, quantised)):
            plain, talking = (Path(folder) / f"{kind}-{number}.onnx" for kind in ("plain", "talking"))
            onnx.save(graph, plain)
            debug.modify_model_output_intermediate_tensors(str(plain), str(talking))
            found.append(debug.collect_activations(str(talking), _Pictures(pictures)))
    matched = debug.compute_activation_error(debug.create_activation_matching(found[1], found[0]))
    noise = {name: float(errors["xmodel_err"]) for name, errors in matched.items()}
    nodes = [node for node in model.graph.node if node.op_type in QUANTISED and in_network(node.name)]
    known = [node for node in nodes if node.output[0] in noise]
    return tuple(node.name for node in sorted(known, key=lambda node: noise[node.output[0]]))


class _Pictures:
    """What ONNX Runtime calls a calibration data reader."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._waiting: Iterator[Picture] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._waiting, None)
        return None if picture is None else {INPUT: np.ascontiguousarray(picture[None])}
