"""Formats of exported files, the precisions that each has, and the packages that each needs. Imports no torch."""

from __future__ import annotations

from typing import Literal

from maskwright.config import suggest
from maskwright.errors import ConfigError
from maskwright.predict.extras import imported

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch": ("fp32",),
}
"""bf16 is OpenVINO's: the file holds what fp32's does, and is computed in bf16 where the processor can."""

NEEDED: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
"""Optional packages, to make and to prove; int8 needs onnxruntime as well."""


def check_kind(format: str, precision: str, runner: bool = False) -> None:
    """Raises ConfigError: there is none of the kind, or run.py cannot read it; RunError: a package that it needs is not
    installed."""
    if format not in PRECISIONS:
        raise ConfigError(f"there is no format {format!r}", suggest(format, list(PRECISIONS)))
    if precision not in PRECISIONS[format]:
        others = [other for other, found in PRECISIONS.items() if precision in found]
        hint = f"{format} has {', '.join(PRECISIONS[format])}"
        if others:
            hint += f"; {precision} is there with --format {' or '.join(others)}"
        raise ConfigError(f"{format} has no precision {precision!r}", hint)
    if runner and format != "onnx":
        raise ConfigError(f"run.py needs an ONNX file, not {format}", "leave out --runner, or --format")
    for package in NEEDED[format]:
        imported(package)
    if precision == "int8":
        imported("onnxruntime")
