"""fp16: weights of 16 bits, half the file. They are widened when the file is opened, and computed with in fp32.

Arithmetic in fp16 is left alone: CPUs have next to none, so runtimes would widen and narrow around every layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST = 64
"""Entries of a tensor that is worth it; what is smaller is shapes, scales and biases."""


def halve(model: Any) -> Any:
    """A ModelProto with its large float tensors in fp16. What does not fit into fp16's range stays as it is."""
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    largest = np.finfo(np.float16).max
    casts, kept = [], []
    for tensor in copy.graph.initializer:
        wide = numpy_helper.to_array(tensor)
        if wide.dtype != np.float32 or wide.size < SMALLEST or np.abs(wide).max() > largest:
            kept.append(tensor)
            continue
        name = f"{tensor.name}/fp16"
        kept.append(numpy_helper.from_array(wide.astype(np.float16), name))
        casts.append(
            onnx.helper.make_node("Cast", [name], [tensor.name], f"{name}/cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *copy.graph.node]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
