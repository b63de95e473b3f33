"""From the module to a graph that other runtimes compute: ONNX, OpenVINO's IR, and torch's own package."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch.export import Dim, ExportedProgram

from maskwright.errors import RunError
from maskwright.export.whole import Whole
from maskwright.files import write_bytes
from maskwright.predict.backends import INPUT, OUTPUTS
from maskwright.predict.extras import imported
from maskwright.predict.passport import KEY, Passport, parse_ir

EXAMPLE = (2, 101, 203)
"""N H W of the pictures that are traced: unlike each other and not round, so that no size is taken for another."""


def trace(whole: Whole) -> ExportedProgram:
    """The module as a program of torch operators, for any N, H and W. Raises RunError where torch cannot."""
    images = torch.zeros(*EXAMPLE, whole.spec.channels, dtype=torch.uint8)
    any_size = {"images": dict.fromkeys(range(3), Dim.AUTO)}
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(whole, (images,), dynamic_shapes=any_size)
    except Exception as error:  # whatever a stranger's layer makes of symbolic sizes
        raise RunError(
            f"{whole.spec.model.name} cannot be exported: {' '.join(str(error).split())[:300]}",
            "predict with the run itself",
        ) from error


def to_onnx(program: ExportedProgram) -> Any:
    """An onnx.ModelProto with one input, `backends.INPUT`, and `backends.OUTPUTS`. Raises RunError where onnx or
    onnxscript is not installed."""
    for package in ("onnx", "onnxscript"):
        imported(package)
    with quiet():
        made = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=list(OUTPUTS), verbose=False
        )
    assert made is not None
    model = made.model_proto
    for value in [*model.graph.input, *model.graph.output]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, _axes(value.name), strict=True):
            if not dimension.dim_value:
                dimension.dim_param = name
    return _without_stories(model)


def _axes(name: str) -> tuple[str, ...]:
    if name == INPUT:
        return ("N", "H", "W", "C")
    return ("N", "H", "W") if name == OUTPUTS[0] else ("N", "K", "H", "W")


def _without_stories(model: Any) -> Any:
    """Where in whose source a node came from is nobody's business, and half of a small file."""
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    for value in model.graph.value_info:
        del value.metadata_props[:]
    for node in model.graph.node:
        # The exporter keeps the path of modules here, by which the network's own nodes are known.
        scopes = [entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        inside = bool(scopes) and "network" in scopes[0]
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = f"network/{node.name}" if inside else node.name
    return model


def in_network(name: str) -> bool:
    """Whether a node of `to_onnx` belongs to the network, and not to what is before and behind it."""
    return name.startswith("network/")


def save_onnx(model: Any, passport: Passport, path: Path) -> None:
    """One file with its passport inside. Raises RunError: larger than protobuf holds, or it cannot be written."""
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: passport.to_json()})
    model.producer_name = KEY
    try:
        content = model.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf's limit
        raise RunError("the model is larger than the 2 GiB of an ONNX file", "use --format torch") from error
    write_bytes(path, content)


def save_ir(graph: Any, passport: Passport, path: Path, *, half: bool = False) -> None:
    """OpenVINO's IR of an onnx.ModelProto: `path` (.xml) and its weights beside it (.bin), of 16 bits where `half`.

    Raises RunError where they cannot be written.
    """
    openvino = imported("openvino")
    model = openvino.Core().read_model(graph.SerializeToString())
    model.set_rt_info(passport.to_json(), [KEY])
    try:
        openvino.save_model(model, path, compress_to_fp16=half)
    except RuntimeError as error:
        raise RunError(
            f"{path} could not be written: {' '.join(str(error).split())[:300]}",
            "free some space or choose another folder",
        ) from error


def stamp_ir(passport: Passport, path: Path) -> None:
    """Another passport into an IR that lies there: saved anew, OpenVINO would give its layers other names.

    Raises RunError where it cannot be written.
    """
    root = parse_ir(path)
    found = root.find(f"./rt_info/{KEY}")
    assert found is not None
    found.set("value", passport.to_json())
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def save_program(program: ExportedProgram, passport: Passport, path: Path) -> None:
    """A `torch.export` package with the passport as an extra member, and no pickled example in it.

    Raises RunError where it cannot be written.
    """
    program._example_inputs = None  # torch pickles them, and they are zeros
    content = io.BytesIO()  # torch's own writer ends the process where the disk is full
    with quiet():
        torch.export.save(
            program, content, extra_files={f"{KEY}.json": json.dumps(passport.model_dump(mode="json"))}
        )
    write_bytes(path, content.getvalue())


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk at length of what does not concern a user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
