"""`predict --tile --check-seams`, on a small real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.test_outputs import PHOTOS, complaint, workshop

from maskwright.cli.main import main
from maskwright.cli.tiles import read_tile, tile_lines
from maskwright.errors import ConfigError
from maskwright.predict.look import Seams
from maskwright.predict.model_folder import load_spec
from maskwright.predict.save import Saved

__all__ = ["workshop"]


def test_a_run_knows_what_it_saw(here: Path) -> None:
    seen = load_spec(Path("runs/first/model")).seen
    assert seen is not None
    assert not seen.tiles
    assert min(seen.size) > 16


def test_tiles_and_seams_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "first", PHOTOS, "--tile", "24,32", "--check-seams"]
    assert main([*words, "--out", "tiles"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "this model was trained on whole pictures of about" in said
    assert "Seams: tiles and one look differ by" in said
    assert main([*words, "--out", "again", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    for entry in answer["done"]:
        assert entry["notes"]
        assert 0 < entry["seams"]["difference"] <= 1
        assert entry["seams"]["share"] == entry["seams"]["changed"] / entry["seams"]["pixels"]


def test_nothing_to_cut(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "first", PHOTOS, "--out", "whole", "--tile", "512", "--check-seams"]) == 0
    assert "no picture was cut" in capsys.readouterr().out
    for name in ("tiles", "whole"):
        assert main(["predict", "first", PHOTOS, "--out", f"{name}-2", "--json"]) == 0
        assert all(entry["seams"] is None for entry in json.loads(capsys.readouterr().out)["done"])


def test_a_tile_that_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--tile big is no size" in complaint(
        ["predict", "first", PHOTOS, "--out", "none", "--tile", "big"], capsys
    )


@pytest.mark.parametrize(("text", "tile"), [(None, None), ("512", (512, 512)), ("512, 64", (512, 64))])
def test_sizes(text: str | None, tile: tuple[int, int] | None) -> None:
    assert read_tile(text) == tile


@pytest.mark.parametrize("text", ["", "1,2,3", "0", "-5,5", "1.5"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        read_tile(text)


def test_each_note_is_told_once_and_the_worst_seam() -> None:
    results = [
        Saved(
            Path(f"{number}.png"), notes=(f"note {number // 2}",), seams=Seams(number / 10, 1, 2, number, 10)
        )
        for number in range(10)
    ]
    lines = list(tile_lines(results, check=True))
    assert lines[:3] == [f"Note: {2 * number}.png: note {number}" for number in range(3)]
    assert lines[3].startswith("Note: 2 more")
    assert lines[4].startswith(
        "Seams: tiles and one look differ by 0.9 of probability at most (9.png, row 1, column 2)"
    )
    assert "; 45 % of the pixels have another class (10 checked)" in lines[4]
