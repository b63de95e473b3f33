"""`show` and what `export` prints, where files are damaged or several lie side by side."""

from __future__ import annotations

from pathlib import Path

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


def test_the_next_step_names_the_model_where_several_lie_beside_run_py(tmp_path: Path) -> None:
    def told() -> str:
        console = Console(width=500)
        with console.capture() as heard:
            console.print(proof_text(Passport(run="discs", spec=SPEC, proof=PROOF), one, tmp_path / "run.py"))
        return heard.get()

    one = tmp_path / "one.onnx"
    one.write_bytes(b"")
    assert f"python {tmp_path / 'run.py'} PICTURES --out" in told()
    (tmp_path / "two.onnx").write_bytes(b"")
    assert f"python {tmp_path / 'run.py'} --model {one} PICTURES --out" in told()
