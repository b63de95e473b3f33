"""`show` and what `export` prints, where files are damaged or several lie side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from maskwright.cli.main import main
from maskwright.cli.proof import proof_text
from maskwright.config import InputConfig, ModelConfig
from maskwright.predict.model_folder import ModelSpec, save_spec
from maskwright.predict.passport import Passport, Proof, Row, Tolerance

SPEC = ModelSpec(
    model=ModelConfig(name="unet", width=4, depth=1),
    input=InputConfig(size=(16, 16), channels=1),
    classes=("a", "b"),
    colours=((0, 0, 0), (1, 1, 1)),
    mean=(0.5,),
    deviation=(0.5,),
)
ROW = Row(
    backend="x",
    precision="fp32",
    logits=None,
    probability=None,
    flipped=0,
    pixels=1,
    dice=None,
    change=None,
    change_ci95=None,
    seconds=(1, 1, 1),
)
PROOF = Proof(
    date="today",
    data="discs",
    fingerprint="0",
    split="validation",
    pictures=1,
    shapes=(),
    contract="0",
    threads=1,
    cpu="x",
    tolerance=Tolerance(flipped=0, dice=0, probability=0),
    reference=ROW,
    rows=(ROW,),
)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("model/README.md", b"\xff\xfe", "README.md is not UTF-8"),
        ("scores/test/scores.json", b"{", "scores.json is damaged"),
        ("scores/test/scores.json", b"\xff", "scores.json is damaged"),
    ],
)
def test_damaged_files_of_a_run_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, line: str
) -> None:
    save_spec(tmp_path / "model", SPEC)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert main(["show", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def told(path: Path, *, proof: Proof = PROOF, **tolerance: float) -> str:
    proof = proof.model_copy(update={"tolerance": proof.tolerance.model_copy(update=tolerance)})
    console = Console(width=500)
    with console.capture() as heard:
        console.print(
            proof_text(Passport(run="discs", spec=SPEC, proof=proof), path, path.with_name("run.py"))
        )
    return heard.get()


def test_the_next_step_names_the_model_beside_run_py(tmp_path: Path) -> None:
    """Another export beside it may come."""
    one = tmp_path / "one.onnx"
    one.write_bytes(b"")
    assert f"python {tmp_path / 'run.py'} --model {one} PICTURES --out" in told(one)
    assert f"maskwright predict {one} PICTURES" in told(one)


def test_a_torch_package_is_opened_by_torch(tmp_path: Path) -> None:
    package = tmp_path / "model.pt2"
    package.write_bytes(b"")
    text = told(package)
    assert f"torch.export.load('{package}').module()" in text
    assert "maskwright predict" not in text


def test_a_limit_that_allows_all_is_not_said(tmp_path: Path) -> None:
    file = tmp_path / "one.onnx"
    file.write_bytes(b"")
    assert "Allowed: 2.00% of pixels, 0.01 of Dice.\n" in told(file, flipped=0.02, dice=0.01, probability=1)
    assert "0.01 of Dice, 0.5 of a probability.\n" in told(file, flipped=0.02, dice=0.01, probability=0.5)


def test_a_batch_has_a_limit_of_its_own_where_it_was_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "one.onnx"
    file.write_bytes(b"")
    looked = PROOF.model_copy(update={"rows": (ROW.model_copy(update={"worst": 0.01}),)})
    tolerance: dict[str, Any] = {"flipped": 0.02, "dice": 0.01, "probability": 1}
    assert "2.00% of pixels and 20.00% of any one batch, 0.01 of Dice.\n" in told(
        file, proof=looked, **tolerance
    )
    assert "batch," not in told(file, **tolerance)
