"""Files that were damaged, changed or made to do harm, and packages that are not there: one clear line each."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import maskwright as mw
from maskwright.cli.main import main
from maskwright.errors import RunError
from maskwright.export.export import export
from maskwright.predict import passport
from maskwright.predict.backends import OUTPUTS, OnnxRuntime, OpenVino
from maskwright.predict.exported import Exported
from maskwright.predict.passport import (
    LARGEST_PASSPORT,
    Passport,
    Proof,
    Row,
    Tolerance,
    as_text,
    digest_of,
    parse_onnx,
    read_passport,
)
from maskwright.report.exports import exported_files

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter, in the libraries that it calls


@pytest.fixture(scope="module")
def file(run: mw.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain ONNX file; not to be written to."""
    path = export(run.path, tmp_path_factory.mktemp("out") / "discs.onnx", pictures=2).path
    assert path is not None
    return path


@pytest.fixture(scope="module")
def package(run: mw.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file for torch; not to be written to."""
    path = export(run.path, tmp_path_factory.mktemp("out") / "discs.pt2", format="torch", pictures=2).path
    assert path is not None
    return path


@pytest.fixture(scope="module")
def ir(run: mw.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file for OpenVINO; not to be written to."""
    path = export(run.path, tmp_path_factory.mktemp("out") / "discs.xml", format="openvino", pictures=2).path
    assert path is not None
    return path


def with_passport(file: Path, target: Path, **changes: Any) -> Path:
    """The graph of `file` with a passport that says otherwise."""
    model = onnx.load(file)
    said = json.loads(read_passport(file).to_json()) | changes
    onnx.helper.set_model_props(model, {"maskwright": json.dumps(said)})
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(tmp_path: Path, method: int) -> None:
    for name, member in (("text", "x/extra/maskwright.json"), ("weights", "x/data/weights/weight_0")):
        path = tmp_path / f"{name}.pt2"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(member, b" " * 10_000_000)
        for reader in (read_passport, digest_of):
            with pytest.raises(RunError, match="compressed"):
                reader(path)


def test_no_more_of_a_member_is_read_than_a_passport_may_have(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "large.pt2", "w") as archive:
        archive.writestr("x/extra/maskwright.json", b" " * (LARGEST_PASSPORT + 1))
    with pytest.raises(RunError, match="over a megabyte"):
        read_passport(tmp_path / "large.pt2")


def test_members_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/extra/maskwright.json", b"{}")
        archive.writestr("x/data/weights/weight_0", bytes(10_000))
        archive.filelist += [archive.filelist[-1]] * 100
    for reader in (read_passport, digest_of):
        with pytest.raises(RunError, match="members that lie in one another"):
            reader(path)


def test_a_flipped_byte_is_one_line_or_is_told_as_a_change(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, path = package.read_bytes(), tmp_path / "export" / "flipped.pt2"
    path.parent.mkdir()
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x05\x06"))
    random = np.random.default_rng(0)
    places = [*range(directory, len(content), 3), *random.integers(0, len(content), 40)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        for reader in (read_passport, digest_of):
            with suppress(RunError):
                reader(path)
        exported_files(path.parent)
    weights = content.index(zipfile.ZipFile(package).read("archive/data/weights/weight_0"))
    path.write_bytes(content[:weights] + bytes([content[weights] ^ 1]) + content[weights + 1 :])
    assert main(["show", str(path)]) == 2
    assert "damaged or cut short: Bad CRC-32" in capsys.readouterr().err
    assert exported_files(path.parent) == []


def test_weights_of_openvino_that_are_not_there_are_told(ir: Path, tmp_path: Path) -> None:
    alone = tmp_path / ir.name
    shutil.copy(ir, alone)
    with pytest.raises(RunError, match=r"discs\.bin, the weights of .* is missing; copy both files"):
        digest_of(alone)
    assert exported_files(tmp_path) == []


def test_entities_do_not_hide_in_another_encoding(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "a">]><net>&a;</net>'
    (tmp_path / "bomb.xml").write_bytes(bomb.encode("utf-16"))
    with pytest.raises(RunError, match="damaged"):
        read_passport(tmp_path / "bomb.xml")


@pytest.mark.parametrize("place", ["branch", "sparse", "function", "attribute"])
def test_weights_outside_of_the_file_are_refused_however_deep_they_are(
    file: Path, tmp_path: Path, place: str
) -> None:
    model = onnx.load(file)
    tensor = onnx.TensorProto(name="secret", dims=[1], data_type=onnx.TensorProto.FLOAT)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    node = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    if place == "branch":
        branch = onnx.GraphProto(name="branch", initializer=[tensor])
        inner = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch)
        outer = onnx.GraphProto(name="outer", node=[inner])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=outer))
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif place == "function":
        model.functions.add(name="f").node.append(node)
    else:
        model.graph.node.append(node)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match="weights in other files"):
        parse_onnx(tmp_path / "model.onnx")


def test_what_lies_beside_the_weights_is_counted_as_protobuf_counts_it(file: Path) -> None:
    model = onnx.load(file)
    model.graph.initializer.append(onnx.TensorProto(name="empty", raw_data=b""))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1_000_000, np.float32)))
    model.graph.node[0].attribute.add(name="number", f=1.5, floats=[2.5, 3.5])
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    counted = passport._beside_weights(memoryview(model.SerializeToString()), passport.WEIGHTS)
    assert sum(counted) == model.ByteSize() - weights
    assert model.ByteSize() - weights < passport.LARGEST_GRAPH / 50


@pytest.mark.parametrize("place", ["nodes", "weights", "texts", "attributes", "metadata", "damaged", "wide"])
def test_more_than_weights_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(passport, "LARGEST_GRAPH", 1 << 16)
    graph, node, tensor, nothing = b"\x3a", b"\x0a", b"\x2a", b"\x00"
    content = {
        "nodes": part(graph, (node + nothing) * 100_000),
        "weights": part(graph, (tensor + nothing) * 100_000),
        "texts": part(graph, part(node, (b"\x0a" + nothing) * 100_000)),
        "attributes": part(graph, part(node, (b"\x2a" + nothing) * 100_000)),
        "metadata": part(b"\x72", bytes(100_000)),
        "damaged": b"\x0b" * 100_000,  # the kind of a group, which protobuf gave up
        "wide": part(graph, part(tensor, part(b"\x3a", bytes(100_000)))),  # int64_data
    }[place]
    (tmp_path / "model.onnx").write_bytes(content)
    monkeypatch.setattr(onnx.ModelProto, "FromString", lambda _: pytest.fail("protobuf was asked"))
    with pytest.raises(RunError, match="beside its weights; this is not a file of ours"):
        parse_onnx(tmp_path / "model.onnx")


def part(key: bytes, content: bytes) -> bytes:
    """A field of a protobuf message: its key, its length in groups of seven bits, its content."""
    length, groups = len(content), b""
    while length > 127:
        groups, length = groups + bytes([128 | length & 127]), length >> 7
    return key + groups + bytes([length]) + content


def test_a_file_is_searched_for_weights_without_a_list_of_all_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(part(b"\x3a", b"\x0a\x00" * 100_000))
    parse_onnx(tmp_path / "model.onnx")
    tracemalloc.start()
    try:
        parse_onnx(tmp_path / "model.onnx")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_file_changed_after_its_proof_is_not_used(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = weights.raw_data[:-1] + bytes([weights.raw_data[-1] ^ 1])
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(RunError, match=r"changed\.onnx changed after it was proven; export it again"):
        Exported.load(tmp_path / "changed.onnx")


class Says:
    """A backend that gives what it was given."""

    name = "says"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, images: np.ndarray, outputs: Sequence[str]) -> list[Any]:
        return self.answers


MASK, SHARES = np.ones((1, 4, 6), np.uint8), np.ones((1, 2, 4, 6), np.float32)


@pytest.mark.parametrize(
    ("name", "answer", "line"),
    [
        ("mask", MASK[:, :3], r"answers mask as uint8 of \(1, 3, 6\)"),
        ("mask", MASK.astype(np.int64), "answers mask as int64"),
        ("mask", MASK * 2, "says class 2, and has 2 classes"),
        ("mask", [1], "answers mask as <class 'list'>"),
        ("probabilities", SHARES[:, :1], r"answers probabilities as float32 of \(1, 1, 4, 6\)"),
        ("calibrated", SHARES.astype(np.float64), "answers calibrated as float64"),
        ("logits", SHARES[..., None], "answers logits"),
        ("probabilities", SHARES * np.float32("nan"), "answers probabilities that are no numbers"),
        ("calibrated", SHARES * np.float32("inf"), "answers calibrated that are no numbers"),
    ],
)
def test_what_a_graph_must_not_answer(file: Path, name: str, answer: Any, line: str) -> None:
    exported = Exported(file, read_passport(file), Says(answer))
    with pytest.raises(RunError, match=line):
        exported.ask(np.zeros((1, 4, 6, 3), np.uint8), name)


def test_what_a_graph_may_answer(file: Path) -> None:
    passport, picture = read_passport(file), np.zeros((1, 4, 6, 3), np.uint8)
    Exported(file, passport, Says(MASK, SHARES, SHARES, SHARES[:, :1])).ask(picture, *OUTPUTS)
    Exported(file, passport, Says(SHARES)).ask(picture, "logits")


def test_a_network_larger_than_its_file_is_not_built(file: Path, tmp_path: Path) -> None:
    spec = json.loads(read_passport(file).spec.model_dump_json())
    spec["model"] |= {"width": 256, "depth": 4}
    huge = Exported.load(with_passport(file, tmp_path / "huge.onnx", spec=spec))
    with pytest.raises(RunError, match=r"speaks of a network of [\d,]{10,} weights"):
        _ = huge.context


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "a\x1b[2Jb"},
        {"tta": "sideways"},
        {"kept": ["a\nb"]},
        {"precision": "fp32", "receipt": {"a\x07": ""}},
    ],
)
def test_a_passport_that_would_do_harm_is_refused(
    file: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(RunError, match=f"{next(iter(reversed(changes)))}"):
        read_passport(with_passport(file, tmp_path / "x.onnx", **changes))


def test_a_class_name_does_not_reach_the_terminal_with_its_escapes(file: Path, tmp_path: Path) -> None:
    spec = json.loads(read_passport(file).spec.model_dump_json())
    spec["classes"][1] = "disc\x1b]0;owned\x07"
    with pytest.raises(RunError, match=r"spec\.classes"):
        read_passport(with_passport(file, tmp_path / "x.onnx", spec=spec))


def test_any_words_become_text_of_a_passport() -> None:
    assert as_text("a\x1b[2J\n b") == "a [2J b"
    assert len(as_text("a" * 2000)) == 1000


def test_a_proof_of_a_runtime_that_says_no_number_is_read_again(file: Path) -> None:
    passport = read_passport(file)
    assert passport.proof is not None
    bad = passport.proof.rows[-1].model_copy(update={"probability": None, "logits": None})
    kept = passport.model_copy(
        update={"proof": passport.proof.model_copy(update={"rows": (passport.proof.rows[0], bad)})}
    )
    assert Passport.model_validate_json(kept.to_json()) == kept
    with pytest.raises(ValueError, match="finite"):
        Tolerance(flipped=0, dice=0, probability=float("inf"))
    with pytest.raises(ValueError, match="finite"):
        Row.model_validate(bad.model_dump() | {"probability": float("inf")})
    earlier = kept.model_dump(mode="json")
    del earlier["proof"]["rows"][0]["worst"]
    assert Passport.model_validate(earlier).proof is not None
    with pytest.raises(ValueError, match="at least 1 item"):
        Proof.model_validate(passport.proof.model_dump() | {"rows": ()})


def test_a_proof_that_failed_is_not_genuine(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = json.loads(read_passport(file).to_json())["proof"]
    proof["rows"][0]["faults"] = ["too far"]
    failed = str(with_passport(file, tmp_path / "x.onnx", proof=proof, scores={"test": 0.0}))
    assert main(["show", failed, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["genuine"] is False
    assert main(["show", failed]) == 1
    said = capsys.readouterr().out
    assert "does not hold" in said
    assert "changed after" not in said
    assert "test 0.0000" in said


@pytest.mark.parametrize(
    ("package", "format", "precision"),
    [
        ("onnx", "onnx", "fp32"),
        ("onnxscript", "onnx", "fp32"),
        ("onnxruntime", "onnx", "fp32"),
        ("openvino", "openvino", "fp32"),
        ("onnxruntime", "openvino", "int8"),
    ],
)
def test_a_missing_package_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, format: Any, precision: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError, match=rf"{package} is not installed; pip install"):
        export(tmp_path / "no run", format=format, precision=precision)


def test_a_report_needs_no_onnx(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.name for one in exported_files(file.parent)] == ["discs.onnx"]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RunError, match="onnx is not installed"):
        read_passport(file)
    assert exported_files(file.parent) == []


def test_threads_may_ask_for_different_outputs_at_once(file: Path) -> None:
    wanted = [OUTPUTS[place : place + length] for place in range(4) for length in (1, 2)]
    pictures = np.zeros((1, 8, 8, 3), np.uint8)
    backend = OnnxRuntime(file, threads=1)
    ready = threading.Barrier(len(wanted))

    def ask(outputs: Sequence[str]) -> int:
        ready.wait()
        return len(backend(pictures, outputs))

    with ThreadPoolExecutor(len(wanted)) as pool:
        assert list(pool.map(ask, wanted)) == [len(outputs) for outputs in wanted]


@pytest.mark.parametrize("runtime", [OnnxRuntime, OpenVino])
def test_no_thread_gets_the_answer_of_another(file: Path, runtime: Any) -> None:
    backend, random = runtime(file, threads=1), np.random.default_rng(0)
    pictures = [random.integers(0, 256, (1, 200 + 8 * k, 200, 3), dtype=np.uint8) for k in range(8)] * 10
    alone = [backend(picture, ("logits",))[0] for picture in pictures[:8]] * 10
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda picture: backend(picture, ("logits",))[0], pictures)
        assert all(map(np.array_equal, alone, together))
