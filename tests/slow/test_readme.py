"""The commands of README and of the guide, run as they stand, on small data under the names they use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (
    "index",
    "data",
    "train",
    "models",
    "augment",
    "evaluate",
    "compare",
    "study",
    "predict",
    "export",
    "runs",
    "verify",
    "triage",
    "python",
)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in GUIDE)]

SHORTER = {
    "--budget 20m": "--budget 8s",
    "--epochs 3": "--epochs 1",
    '"train.epochs": 20': '"train.epochs": 1',
}
"""What a test need not wait for; nothing else of a command is changed."""


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text()
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> Iterator[str]:
    """Each command of the pages once, in reading order; the demo has a test of its own."""
    seen = {"maskwright demo"}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                command = line.partition("#")[0].strip()
                if command.startswith("maskwright ") and command not in seen:
                    seen.add(command)
                    yield command


def write_pets(root: Path, count: int = 30) -> None:
    """Ellipses on grass in the layout of Oxford-IIIT Pet; the official lists make every third a test picture."""
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for number in range(count):
        height, width = random.integers(60, 90, 2)
        rows, columns = np.mgrid[:height, :width]
        distance = ((rows - height / 2) / (height / 3)) ** 2 + ((columns - width / 2) / (width / 4)) ** 2
        trimap = np.where(distance < 0.8, 1, np.where(distance < 1, 3, 2)).astype(np.uint8)
        picture = random.integers(0, 80, (height, width, 3)) + np.where(trimap == 2, 0, 150)[..., None]
        name = f"beagle_{number}"
        Image.fromarray(picture.astype(np.uint8)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{name}.png")
        lists["test" if number % 3 == 0 else "trainval"].append(f"{name} 1 1 1")
    for name, lines in lists.items():
        (root / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: data/pets, photos/, the files that the pages on evaluation and studies show."""
    folder = tmp_path_factory.mktemp("workshop")
    write_pets(folder / "data" / "pets")
    (folder / "photos").mkdir()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(folder / "photos" / "a.jpg")
    Image.new("RGB", (40, 70), (90, 120, 60)).save(folder / "photo.jpg")
    (contract,) = (block for block in blocks(ROOT / "docs/evaluate.md", "yaml") if "empty:" in block)
    (folder / "contract.yaml").write_text(contract)
    for block in blocks(ROOT / "docs/study.md", "yaml"):
        if named := re.match(r"# (\w+\.yaml)\n", block):
            (folder / named[1]).write_text(block)
    return folder


@pytest.mark.slow
@pytest.mark.ci
def test_every_command_runs(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)
    done = [command for command in commands() if main(shlex.split(command)[1:]) == 0]
    assert done == list(commands())
    assert len(done) > 12
    for block in [block for page in PAGES for block in blocks(page, "python")]:
        exec(compile(block, "<page>", "exec"), {})
    (example,) = (block for block in blocks(ROOT / "docs/data.md", "yaml") if "trainval" in block)
    (workshop / "pets.yaml").write_text(
        example.replace("Abyssinian_34", "beagle_1").replace("beagle_125", "beagle_2")
    )
    assert main(["data", "show", "pets.yaml"]) == 0


@pytest.mark.slow
def test_the_demo_leaves_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    run = tmp_path / "runs" / "demo"
    for name in ("report.html", "predictions.png", "model/model.safetensors", "export/model.onnx"):
        assert (run / name).is_file(), name
    for following in re.findall(r"^  (maskwright .*)$", out, re.MULTILINE):
        assert following.split()[1] in ("show", "predict", "train")
    assert main(["show", "runs/demo"]) == 0
