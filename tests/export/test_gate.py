"""What the gate does with backends that fail, are slow at first, or agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import maskwright as mw
from maskwright.data.dataset import Dataset, Item
from maskwright.errors import RunError
from maskwright.export import export as exporter
from maskwright.export import gate
from maskwright.export.export import _in_int8, _remove_leftovers, _target
from maskwright.export.gate import TOLERANCES, _farthest, chosen, faults, outward, prove
from maskwright.export.graph import save_ir, save_onnx, save_program
from maskwright.export.quantise import quantise
from maskwright.export.runner import RUNNER
from maskwright.predict.backends import OUTPUTS
from maskwright.predict.passport import Passport, Row, Tolerance
from maskwright.predict.predictor import Predictor
from maskwright.progress import Silent

ROW = Row(
    backend="x",
    precision="fp32",
    logits=0.0,
    probability=0.0,
    flipped=0,
    pixels=100_000,
    dice=0.9,
    change=0.0,
    change_ci95=(-0.0001, 0.0001),
    seconds=(1, 1, 1),
)


def test_the_tolerance_by_hand() -> None:
    seen = {"probability": 0.002, "flipped": 11, "change": -0.0005, "change_ci95": (-0.0012, 0.0002)}
    row, limit = ROW.model_copy(update=seen), TOLERANCES["fp32"]
    assert [fault.split()[0] for fault in faults(row, limit)] == ["0.0110%", "Dice"]
    assert faults(row.model_copy(update={"flipped": 10, "change_ci95": None}), limit) == ()
    assert "0.0012" in faults(row, limit)[1], "the interval's far end counts"
    assert faults(row.model_copy(update={"probability": 0.02}), limit)[-1].startswith("a probability")
    whole = row.model_copy(update={"flipped": 10, "change_ci95": None, "worst": 0.001})
    assert faults(whole, limit) == ()
    assert "in one batch" in faults(whole.model_copy(update={"worst": 0.0011}), limit)[0]


def test_ends_of_the_interval_by_hand() -> None:
    assert outward((0.0, 0.0)) == (-0.0005, 0.0005)
    assert outward((-0.00234, 0.00111)) == (-0.0025, 0.0015)
    assert outward((0.0015, 0.5)) == (0.0010, 0.5005), "never on the end itself"


def some(run: mw.Run, number: int) -> tuple[Dataset, list[Item]]:
    """The data set of a run, and pictures of it to prove with."""
    dataset = run.folder.read_dataset()
    return dataset, chosen(dataset, "validation", number)


class Twin:
    """PyTorch itself as a backend; `fails_at` counts calls."""

    def __init__(self, predictor: Predictor, fails_at: float = math.inf) -> None:
        self.name, self.predictor, self.fails_at = "twin", predictor, fails_at
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, images: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        self.asked.append(tuple(outputs))
        if len(self.asked) >= self.fails_at:
            raise RunError("twin does not compile", "")
        said = dict(zip((OUTPUTS[0], *OUTPUTS[2:]), gate._eager(self.predictor, images, None), strict=True))
        return [said.get(name, said["calibrated"]) for name in outputs]


class Upside(Twin):
    """Wrong in all pixels of two small batches, which are one in sixty of all pixels."""

    def __call__(self, images: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        said = super().__call__(images, outputs)
        wrong = images.shape[:3] in ((1, 64, 64), (3, 131, 67))
        return [1 - answer if wrong and answer.dtype == np.uint8 else answer for answer in said]


def test_a_runtime_that_fails_at_one_size_is_seen(run: mw.Run) -> None:
    predictor = run.predictor("cpu")
    proof = prove([(Upside(predictor), "int8")], predictor, *some(run, 2))
    row = proof.rows[0]
    assert row.share < TOLERANCES["int8"].flipped
    assert row.worst == 1
    assert row.faults == ("100.0000% of pixels flipped in one batch, at most 20.0000%",)


def test_no_more_pictures_are_kept_than_a_batch_has(run: mw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, kept = run.predictor("cpu"), []

    def counted(pictures: Any, shape: tuple[int, int, int]) -> np.ndarray:
        kept.append(len(pictures))
        return np.zeros((*shape, 3), np.uint8)

    monkeypatch.setattr(gate, "_batch", counted)
    monkeypatch.setattr(gate, "SHAPES", ((1, 8, 8), (2, 8, 8)))
    prove([(Twin(predictor), "fp32")], predictor, *some(run, 4))
    assert kept == [2, 2]


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.mark.parametrize("call", [1, 3, 9])
def test_a_second_runtime_that_fails_drops_out(run: mw.Run, call: int) -> None:
    predictor, heard = run.predictor("cpu"), Listening()
    first, second = Twin(predictor), Twin(predictor, fails_at=call)
    proof = prove(
        [(first, "fp32"), (second, "fp32")],
        predictor,
        *some(run, 2),
        progress=heard,
    )
    assert proof.passed
    assert [row.backend for row in proof.rows] == ["twin"]
    assert heard.said == ["Left out of the proof: twin does not compile"]
    assert len(second.asked) == call
    with pytest.raises(RunError, match="does not compile"):
        prove([(second, "fp32"), (first, "fp32")], predictor, *some(run, 2))


def test_the_first_call_is_not_timed(run: mw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, calls = run.predictor("cpu"), []
    backend, plain = Twin(run.predictor("cpu")), predictor.with_logits

    def counted(picture: Any) -> Any:
        calls.append(picture.shape)
        return plain(picture)

    monkeypatch.setattr(predictor, "with_logits", counted)
    monkeypatch.setattr(gate, "SHAPES", ((1, 8, 8),))
    prove([(backend, "fp32")], predictor, *some(run, 2))
    assert len(calls) == 1 + 2 + 1, "once untimed, two pictures, and the batch"
    timed = OUTPUTS[:2]
    assert [outputs == timed for outputs in backend.asked] == [True, True, False, True, False, False]


def test_what_is_the_same_passes_without_any_tolerance() -> None:
    nothing = Tolerance(flipped=0, dice=0, probability=0)
    assert faults(ROW, nothing) == ()
    one = ROW.model_copy(update={"flipped": 1})
    assert [fault.split()[0] for fault in faults(one, nothing)] == ["0.0010%", "Dice"]


def test_a_probability_that_is_no_number_is_a_fault() -> None:
    row = ROW.model_copy(update={"probability": None})
    assert faults(row, TOLERANCES["int8"]) == ("a probability is not a number",)


def test_the_farthest_is_found_in_any_picture() -> None:
    here = np.zeros((3, 2, 4, 4), np.float32)
    there = here.copy()
    there[1, 0, 2, 2] = -0.5
    assert _farthest(here, there) == 0.5
    for place in range(3):
        broken = there.copy()
        broken[place, 1, 0, 0] = np.nan
        assert _farthest(here, broken) == math.inf


def small_graph(names: Sequence[str]) -> Any:
    """Convolutions in a row, some of them in the network."""
    weights = [
        onnx.numpy_helper.from_array(np.full((3, 3, 1, 1), 0.1, np.float32), f"w{place}")
        for place in range(len(names))
    ]
    nodes = [onnx.helper.make_node("Cast", ["images"], ["x"], to=onnx.TensorProto.FLOAT)]
    nodes.append(onnx.helper.make_node("Transpose", ["x"], ["0"], perm=[0, 3, 1, 2]))
    for place, name in enumerate(names):
        nodes.append(onnx.helper.make_node("Conv", [str(place), f"w{place}"], [str(place + 1)], name=name))
    nodes.append(onnx.helper.make_node("Identity", [str(len(names))], ["logits"]))
    nodes.append(onnx.helper.make_node("Cast", ["logits"], ["mask"], to=onnx.TensorProto.UINT8))
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [
            onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.UINT8, None),
            onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None),
        ],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


PICTURES = [np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)]


def test_nothing_is_quantised_where_every_layer_is_kept() -> None:
    graph = small_graph(["network/a", "before"])
    assert "QuantizeLinear" in kinds(quantise(graph, PICTURES, ["network/a"]))
    assert quantise(graph, PICTURES, []) is graph


@pytest.mark.parametrize("between", [False, True])
def test_what_lies_between_the_layers_takes_part_where_it_flips_few(
    between: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer, two additions, layer: the first sum becomes bytes, or stays in floats."""
    attempts = iter([between, True])
    monkeypatch.setattr(exporter, "_flips_few", lambda *_: next(attempts))
    graph = small_graph(["network/a", "network/b"])
    graph.graph.node[3].input[0] = "all"
    for place, (given, sum) in enumerate((("1", "some"), ("some", "all"))):
        node = onnx.helper.make_node("Add", [given, "1"], [sum], name=f"network/add{place}")
        graph.graph.node.insert(3 + place, node)
    made, kept = _in_int8(graph, PICTURES, 1, Silent())
    assert kept == ()
    in_bytes = {node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert {"1", "all"} <= in_bytes
    assert ("some" in in_bytes) == between


def test_int8_says_truly_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_flips_few", lambda *_: False)
    for layers, left in ((1, 0), (2, 0), (3, 2), (5, 4)):
        graph = small_graph([f"network/{place}" for place in range(layers)])
        made, kept = _in_int8(graph, PICTURES, 1, Silent())
        assert len(kept) == left
        dequantised = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
        plain = {
            node.name
            for node in made.graph.node
            if node.op_type == "Conv" and node.input[1] not in dequantised
        }
        assert plain == {*kept}
    with pytest.raises(RunError, match="no layer that could compute in 8 bits"):
        _in_int8(small_graph(["before"]), PICTURES, 1, Silent())


def test_a_folder_gets_the_names_that_a_run_gets(tmp_path: Path) -> None:
    assert _target(tmp_path, tmp_path, None, "onnx", "int8") == tmp_path / "model-int8.onnx"
    assert _target(tmp_path, tmp_path, None, "openvino", "fp32") == tmp_path / "model.xml"
    assert _target(None, tmp_path, None, "onnx", "int8") == tmp_path / "model-int8.onnx"


def test_a_draft_that_another_export_removes_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([tmp_path / ".export-gone"]))
    _remove_leftovers(tmp_path)


def test_a_foreign_run_py_is_told_before_the_work(run: mw.Run, tmp_path: Path) -> None:
    (tmp_path / RUNNER).write_text("print('mine')")
    with pytest.raises(RunError, match="was not written by maskwright"):
        exporter.export(run.path, tmp_path / "model.onnx", runner=True)
    assert [path.name for path in tmp_path.iterdir()] == [RUNNER]


@pytest.mark.parametrize("ending", ["onnx", "xml", "pt2"])
def test_a_file_that_cannot_be_written_is_one_line(run: mw.Run, tmp_path: Path, ending: str) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / f"model.{ending}"
    passport = Passport(run="discs", spec=run.predictor("cpu").spec)
    save: Any = {"onnx": save_onnx, "xml": save_ir, "pt2": save_program}[ending]
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    with pytest.raises(RunError, match=rf"model\.{ending} could not be written: .*; free some space"):
        save(program if ending == "pt2" else small_graph(["a"]), passport, path)
