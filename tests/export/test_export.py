"""An exported file is the model that was evaluated, or it is not written."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import maskwright as mw
from maskwright.cli.main import main
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.export import export as exporter
from maskwright.export import whole as way
from maskwright.export.export import _check_ours, export
from maskwright.export.whole import Whole
from maskwright.predict.exported import Exported
from maskwright.predict.formats import Format, Precision
from maskwright.predict.passport import digest_of, files_of, read_passport
from maskwright.predict.tiled import Tiled

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter, in the libraries that it calls


@pytest.fixture(scope="module")
def file(run: mw.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain ONNX file; not to be written to."""
    outcome = export(run.path, tmp_path_factory.mktemp("out") / "discs.onnx")
    assert outcome.path is not None
    return outcome.path


def test_the_file_says_what_the_run_says(run: mw.Run, file: Path) -> None:
    predictor, exported = run.predictor("cpu"), Exported.load(file)
    random = np.random.default_rng(3)
    for height, width in [(48, 48), (1, 1), (5, 200), (131, 67), (64, 64)]:
        pictures = random.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
        masks, shares = exported.ask(pictures, "mask", "probabilities")
        for picture, mask, share in zip(pictures, masks, shares, strict=True):
            said, alone = predictor(picture), exported(picture)
            np.testing.assert_allclose(share, said.probabilities, atol=1e-4)
            np.testing.assert_allclose(alone.calibrated, said.calibrated, atol=1e-4)
            clear = np.abs(said.probabilities[1] - 0.5) > 1e-4
            assert (mask == said.mask)[clear].all()
            assert (alone.mask == said.mask)[clear].all()


def test_the_file_is_cut_as_the_run_is(run: mw.Run, file: Path) -> None:
    predictor, exported = run.predictor("cpu"), Exported.load(file)
    assert exported.context == predictor.context
    picture = np.random.default_rng(3).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    said, of_file = Tiled(predictor, (64, 64))(picture), Tiled(exported, (64, 64))(picture)
    np.testing.assert_allclose(of_file.probabilities, said.probabilities, atol=1e-4)


def test_what_is_evaluated_of_the_file_are_the_scores_of_the_run(run: mw.Run, file: Path) -> None:
    from maskwright.evaluation import evaluate

    scores = evaluate(Exported.load(file), run.folder.read_dataset(), split="test")
    assert scores["dice_image"].value == pytest.approx(run.evaluate("test")["dice_image"].value, abs=1e-6)
    assert scores["dice_image"].value > 0.5, "a network that has learnt nothing agrees with anything"


def test_the_proof_can_be_read_back(run: mw.Run, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passport = read_passport(file)
    proof = passport.proof
    assert proof is not None
    assert proof.passed
    assert passport.digest == digest_of(file)
    assert (passport.spec, passport.run) == (run.predictor("cpu").spec, "discs")
    assert [row.backend.split()[0] for row in proof.rows] == ["ONNX", "OpenVINO"]
    assert all(row.flipped == 0 and row.pixels > 1_000_000 for row in proof.rows)
    assert passport.scores["validation"] == run.scores("validation")["dice_image"].value
    assert main(["show", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["genuine"] is True
    assert document["passport"] == passport.model_dump(mode="json")
    assert main(["show", str(file)]) == 0
    said = capsys.readouterr().out
    assert "Its proof:" in said
    assert "the same" in said


def test_a_weight_changed_after_the_proof_is_told(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(file)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = weights.raw_data[:-1] + bytes([weights.raw_data[-1] ^ 1])
    onnx.save(model, tmp_path / "changed.onnx")
    assert main(["show", str(tmp_path / "changed.onnx")]) == 1
    assert "changed after it was proven" in capsys.readouterr().out


# Sabotage: every way in which exports of other tools are known to go wrong


class WrongMean(Whole):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.preprocess.mean += 0.05


class SwappedChannels(Whole):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images.flip(3))


class WrongTemperature(Whole):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.spec = self.spec.model_copy(update={"temperature": 3 * self.spec.temperature})


class OtherThreshold(Whole):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.spec = self.spec.model_copy(update={"threshold": 0.6})


class TrainingMode(Whole):
    """Batch statistics of the pictures instead of those that were learnt."""

    def eval(self) -> Any:
        return self.train()


def other_corners(logits: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)


def without_antialiasing(pictures: Tensor, rows: int, columns: int) -> Tensor:
    return F.interpolate(pictures, (rows, columns), mode="bilinear", align_corners=False)


def one_pixel_off(length: int, rows: int, height: int, most: int) -> int:
    return torch.sym_max(1, torch.sym_min(most, length * rows // height))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "sabotage",
    [
        WrongMean,
        SwappedChannels,
        WrongTemperature,
        OtherThreshold,
        TrainingMode,
        other_corners,
        without_antialiasing,
        one_pixel_off,
    ],
    ids=lambda sabotage: sabotage.__name__,
)
@pytest.mark.slow
@pytest.mark.ci
def test_a_sabotaged_export_is_refused(
    run: mw.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage: Any
) -> None:
    if isinstance(sabotage, type):
        monkeypatch.setattr(exporter, "Whole", sabotage)
    else:
        name = {"other_corners": "_stretch", "without_antialiasing": "_shrink", "one_pixel_off": "_within"}
        monkeypatch.setattr(way, name[sabotage.__name__], sabotage)
    outcome = export(run.path, tmp_path / "model.onnx")
    assert outcome.path is None
    assert not any(tmp_path.iterdir())
    assert outcome.passport.proof is not None
    assert all(row.faults for row in outcome.passport.proof.rows), "both runtimes see it"


def test_the_command_says_why_and_ends_with_1(
    run: mw.Run,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exporter, "Whole", SwappedChannels)
    shutil.copy(file, tmp_path / "model.onnx")
    assert main(["export", str(run.path), "--out", str(tmp_path / "model.onnx")]) == 1
    said = capsys.readouterr().out
    assert "Nothing was written" in said
    assert "of pixels flipped, at most 0.0100%" in said
    assert (tmp_path / "model.onnx").read_bytes() == file.read_bytes(), "an older one stays"


def test_twenty_pictures_are_enough_for_an_interval(run: mw.Run, discs: Path, tmp_path: Path) -> None:
    for pictures, known in ((19, False), (20, True)):
        outcome = export(run.path, tmp_path / "m.onnx", data=discs, split="train", pictures=pictures)
        assert outcome.passport.proof is not None
        assert outcome.passport.proof.pictures == pictures
        row = outcome.passport.proof.rows[0]
        assert (row.change_ci95 is not None) == known
    assert row.change_ci95 is not None
    assert row.change_ci95[0] < row.change < row.change_ci95[1]  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    ("format", "precision", "ending"),
    [
        ("onnx", "fp16", ".onnx"),
        ("onnx", "int8", ".onnx"),
        ("openvino", "fp32", ".xml"),
        ("openvino", "fp16", ".xml"),
        ("openvino", "bf16", ".xml"),
        ("openvino", "int8", ".xml"),
        ("torch", "fp32", ".pt2"),
    ],
)
def test_every_format_is_proven_and_read_again(
    run: mw.Run, tmp_path: Path, format: Format, precision: Precision, ending: str
) -> None:
    outcome = export(run.path, tmp_path / f"model{ending}", format=format, precision=precision)
    assert outcome.path is not None, outcome.passport.proof
    assert sorted(tmp_path.iterdir()) == sorted(files_of(outcome.path))
    passport = read_passport(outcome.path)
    assert passport == outcome.passport
    assert passport.digest == digest_of(outcome.path)
    if format == "torch":
        package = torch.export.load(outcome.path).module()
        mask = package(torch.zeros(1, 30, 40, 3, dtype=torch.uint8))[0]
        assert mask.shape == (1, 30, 40)
        with pytest.raises(RunError, match="torch unpickles"):
            Exported.load(outcome.path)
        return
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    said = Exported.load(outcome.path, threads=1)(picture)
    apart = np.abs(said.probabilities - run.predictor("cpu")(picture).probabilities).max()
    assert apart < (1e-4 if precision == "fp32" else 0.5)
    assert (apart > 1e-4) == (precision in ("bf16", "int8", "fp16")), "less bits can be seen"


def test_a_model_folder_needs_data(run: mw.Run, discs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("config.json", "model.safetensors"):
        (alone / name).write_bytes((run.path / "model" / name).read_bytes())
    with pytest.raises(RunError, match="--data DATA"):
        export(alone)
    outcome = export(alone, data=discs, pictures=4)
    assert outcome.path == alone / "model.onnx"
    assert outcome.passport.proof is not None
    assert outcome.passport.proof.pictures == 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"format": "onix"}, "there is no format 'onix'; did you mean onnx"),
        ({"precision": "int4"}, "onnx has no precision 'int4'; onnx has fp32, fp16, int8"),
        ({"precision": "bf16"}, "bf16 is there with --format openvino"),
        ({"out": "model.xml"}, r"model\.xml does not end in \.onnx"),
        ({"format": "openvino", "runner": True}, r"run\.py needs an ONNX file, not openvino"),
        ({"split": "tset"}, "tset"),
    ],
)
def test_mistakes_are_told_before_the_work(run: mw.Run, words: dict[str, Any], line: str) -> None:
    with pytest.raises((ConfigError, RunError), match=line):
        export(run.path, **words)


def test_what_cannot_be_one_file_is_told(run: mw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    with pytest.raises(ConfigError, match="is an ensemble"):
        export("discs+other")
    with pytest.raises(ConfigError, match="say where the file goes"):
        export("hf:me/discs")


def test_what_a_kill_left_behind_is_removed_later(run: mw.Run, tmp_path: Path) -> None:
    for name, age in ((".export-old", 90_000), (".export-new", 7200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with pytest.raises(DataError, match="no pictures with masks"):
        export(run.path, tmp_path / "model.onnx", split="unlabelled")
    assert [path.name for path in tmp_path.iterdir()] == [".export-new"]


@pytest.mark.parametrize(
    ("there", "out"),
    [("x.bin", "x.xml"), ("x.xml", "x.xml"), ("model.bin", ""), ("model.xml", ""), ("x.onnx", "x.onnx")],
)
def test_files_of_others_are_left_alone(run: mw.Run, tmp_path: Path, there: str, out: str) -> None:
    (tmp_path / there).write_bytes(b"of another")
    format: Format = "onnx" if out == "x.onnx" else "openvino"
    with pytest.raises(RunError, match=rf"{there} is damaged, or was not exported by maskwright"):
        export(run.path, tmp_path / out, format=format, pictures=2)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_bytes() == b"of another"


def test_files_of_ours_are_replaced_whatever_their_version(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    onnx.helper.set_model_props(model, {"maskwright": '{"format": 0}'})
    onnx.save(model, tmp_path / "older.onnx")
    for path in (tmp_path / "older.onnx", tmp_path / "new.onnx"):
        _check_ours(path)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(run: mw.Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written to"):
        export(run.path, tmp_path / "file" / "model.onnx")


# Files of strangers


def test_a_file_cut_short_is_one_clear_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = file.read_bytes()
    short = tmp_path / "short.onnx"
    for length in (0, 10, len(content) // 2, len(content) - 1):
        short.write_bytes(content[:length])
        for verb in (["show"], ["predict", str(tmp_path), "--out", str(tmp_path / "out")]):
            assert main([verb[0], str(short), *verb[1:]]) == 2
            said = capsys.readouterr().err.strip()
            assert said.count("\n") == 0
            assert "damaged or cut short" in said


def test_a_model_of_another_tool_is_told(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:]))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(RunError, match="was not exported by maskwright"):
        read_passport(tmp_path / "other.onnx")
    for name, text in (("other.xml", "<net/>"), ("bomb.xml", '<!DOCTYPE x [<!ENTITY a "a">]><net>&a;</net>')):
        (tmp_path / name).write_text(text)
        with pytest.raises(RunError, match=r"not exported by maskwright|XML entities"):
            Exported.load(tmp_path / name)
    (tmp_path / "other.pt2").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(RunError, match="damaged"):
        read_passport(tmp_path / "other.pt2")


def test_weights_outside_of_the_file_are_refused(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match="weights in other files"):
        Exported.load(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "not JSON"),
        ("[]", "format None"),
        ('{"format": 2}', "newer maskwright"),
        ('{"format": 1}', "run: Field required"),
        ("[" * 100_000, "not JSON"),
        (" " * (1 << 21), "over a megabyte"),
    ],
)
def test_a_passport_that_cannot_be_ours_is_told(file: Path, tmp_path: Path, text: str, line: str) -> None:
    model = onnx.load(file)
    onnx.helper.set_model_props(model, {"maskwright": text})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RunError, match=line):
        Exported.load(tmp_path / "model.onnx")


def test_predict_takes_the_file(
    run: mw.Run, file: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = str(discs / "test" / "images")
    assert (
        main(["predict", str(file), pictures, "--out", str(tmp_path / "file"), "--save", "mask,probability"])
        == 0
    )
    assert main(["predict", str(run.path), pictures, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    for mask in sorted((tmp_path / "run").glob("*.png")):
        assert mask.read_bytes() == (tmp_path / "file" / mask.name).read_bytes()
    assert main(["predict", str(file), pictures, "--out", str(tmp_path / "no"), "--tta", "flips"]) == 2
    assert "the looks of" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "gone.onnx"), pictures, "--out", str(tmp_path / "no")]) == 2
    assert "there is no file" in capsys.readouterr().err
