"""int8: static quantisation of the network inside a graph, calibrated on real pictures; the sensitive stays fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import RunError
from maskwright.export.graph import in_network, quiet
from maskwright.predict.backends import INPUT, OnnxRuntime
from maskwright.predict.extras import imported
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Picture

HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Where the time goes."""
BETWEEN = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""What lies between the heavy ones: where it computes in floats, each of its numbers is made out of a byte and becomes
one again, which took a fifth of the time of an int8 LinkNet. Softmax is not there: it made SegFormer no faster."""


def quantise(model: Any, pictures: Sequence[Picture], nodes: Sequence[str]) -> Any:
    """A ModelProto whose `nodes` compute in 8 bits.

    Weights are signed, per output channel; activations unsigned, by their range on `pictures` (HWC uint8, each alone at
    its own size). Written as QuantizeLinear and DequantizeLinear pairs, which ONNX Runtime and OpenVINO both fuse.
    Without nodes it is `model` itself. Raises RunError where ONNX Runtime cannot.
    """
    imported("onnxruntime")
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not nodes:  # ONNX Runtime takes an empty list for all nodes
        return model
    with tempfile.TemporaryDirectory(prefix="maskwright-") as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            with quiet():
                quantize_static(
                    source,
                    target,
                    _reader(pictures),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=[*HEAVY, *BETWEEN],
                    nodes_to_quantize=list(nodes),
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


def quantisable(model: Any, kinds: Sequence[str] = HEAVY) -> list[str]:
    """Names of the network's nodes of some kinds, in the order of the graph."""
    return [node.name for node in model.graph.node if node.op_type in kinds and in_network(node.name)]


def sensitive(
    model: Any, pictures: Sequence[Picture], threads: int | None = None, progress: Progress = SILENT
) -> tuple[str, ...]:
    """Names of the heavy nodes, worst first: by how far the logits of `pictures` go, in the mean
    square, when this node alone is quantised. An early layer with little noise of its own may matter more than a late
    one.
    """
    names = quantisable(model)
    truth = _logits(model, pictures, threads)
    noise: dict[str, float] = {}
    with progress.task("Judging layers", len(names)) as done:
        for name in names:
            said = _logits(quantise(model, pictures, [name]), pictures, threads)
            noise[name] = sum(
                float(np.square(here - there).mean()) for here, there in zip(said, truth, strict=True)
            )
            done(1)
    return tuple(sorted(names, key=lambda name: -noise[name]))


def _logits(model: Any, pictures: Sequence[Picture], threads: int | None) -> list[np.ndarray]:
    backend = OnnxRuntime.of_graph(model, threads)
    return [backend(picture[None], ("logits",))[0] for picture in pictures]


def _reader(pictures: Sequence[Picture]) -> Any:
    """What ONNX Runtime calls a calibration data reader."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.waiting = iter(pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.waiting, None)
            return None if picture is None else {INPUT: np.ascontiguousarray(picture[None])}

    return Reader()
