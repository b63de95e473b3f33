"""The table and the verdicts from scores made by hand, against SciPy and plain arithmetic."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from maskwright.compare import over_pictures
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import Scores, scores
from maskwright.study import page
from maskwright.study.outcome import StudyResult
from maskwright.study.plan import Study, make_study, parse_plan
from maskwright.study.results import CellResult, collect, lines, over_seeds, verdicts

PICTURES = 160
"""From 150 on a difference has an interval."""
CELLS = "cells: {none: {augment.copies: 0}, one: {augment.copies: 1}, two: {augment.copies: 2}}"
CLAIMS = """
claims:
  - {says: one helps, better: one, than: none}
  - {says: none is best, better: {augment.copies: 0}, than: one}
  - {says: two helps more, better: two, than: one}
"""


def study(text: str = CELLS + CLAIMS) -> Study:
    return make_study("mine", parse_plan(text, "mine"))


def judged(level: float, seed: int) -> Scores:
    """Pictures whose Dice scatters around `level`: the same pattern for every level, another one for every seed."""
    pattern = np.random.default_rng(0).normal(0, 0.05, PICTURES)
    own = np.random.default_rng(seed + 1).normal(0, 0.02, PICTURES)
    hits = np.clip(np.round(1000 * (level + pattern + own)), 0, 1000).astype(np.int64)
    object_N4 = np.stack([hits, 1000 - hits, 1000 - hits, 1000 - hits], axis=1)  # Dice = hits / 1000
    ground_N4 = np.stack([8000 + hits, 1000 - hits, 1000 - hits, 0 * hits], axis=1)  # 9000 pixels
    ids = [str(number) for number in range(PICTURES)]
    return scores(Tallies(np.stack([ground_N4, object_N4], axis=1)), ids, ["ground", "thing"])


def results(levels: Mapping[str, Sequence[float]], of: Study) -> list[CellResult]:
    """A cell's levels, seed by seed."""
    rows = [{"epoch": float(epoch), "seconds": 60.0 * epoch, "train_loss": 1 / epoch} for epoch in (1, 2)]
    found = []
    for cell in of.cells:
        its = {seed: judged(level, seed) for seed, level in enumerate(levels[cell.name])}
        found.append(CellResult(cell, its, dict.fromkeys(its, rows)))
    return found


LEVELS = {"none": (0.6, 0.61, 0.59), "one": (0.8, 0.81, 0.79), "two": (0.8, 0.79, 0.81)}


def test_a_line_by_hand() -> None:
    first, second, _ = lines(results(LEVELS, study()), "dice_image")
    values = [judged(level, seed)["dice_image"].value for seed, level in enumerate(LEVELS["one"])]
    assert second.mean == pytest.approx(np.mean(values))
    t = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert second.over_seeds == pytest.approx(t)
    assert (second.seeds, second.epochs, second.minutes) == ((0, 1, 2), (2, 2, 2), 2.0)
    assert second.difference == pytest.approx(second.mean - first.mean)
    assert second.difference_ci95[0] < second.difference < second.difference_ci95[1]
    assert second.verdict == "better"
    assert math.isnan(first.difference)
    assert first.verdict == ""


def test_verdicts_on_claims() -> None:
    holds, fails, open_question = verdicts(study(), results(LEVELS, study()))
    assert (holds.verdict, fails.verdict) == ("holds", "fails")
    assert holds.difference == pytest.approx(0.2, abs=0.02)
    assert holds.ci95[0] > 0
    assert fails.difference == pytest.approx(-holds.difference)
    assert open_question.verdict in ("noise", "not enough data")
    assert open_question.ci95[0] < 0 < open_question.ci95[1]
    assert "one" in holds.sentence


def test_a_claim_without_runs_on_one_side_is_open() -> None:
    some = results(LEVELS, study())
    some[1] = CellResult(some[1].cell)
    judged_claims = verdicts(study(), some)
    assert [each.verdict for each in judged_claims] == ["not enough data"] * 3
    table = lines(some, "dice_image")
    assert math.isnan(table[1].mean)
    assert table[1].seeds == ()


def test_pooled_sides_hold_all_their_cells() -> None:
    text = "cells: {a: {}, b: {model.width: 9}}\naxes: {train.batch: [2, 4]}\n"
    of = study(text + "claims: [{says: x, better: {train.batch: 4}, than: {train.batch: 2}}]")
    levels = {"a, batch=2": 0.5, "a, batch=4": 0.6, "b, batch=2": 0.7, "b, batch=4": 0.8}
    (pooled,) = verdicts(of, results({name: (level, level) for name, level in levels.items()}, of))
    assert pooled.difference == pytest.approx(0.1, abs=0.02)


def test_other_pictures_and_other_seeds() -> None:
    assert all(math.isnan(end) for end in over_seeds([0.5]))
    assert over_seeds([0.5, 0.5]) == (0.5, 0.5)
    some = [judged(0.7, seed) for seed in range(3)]
    low, high = over_pictures(some, "dice_image")
    assert low < np.mean([each["dice_image"].value for each in some]) < high
    means = np.mean([list(each.by_image("dice_image").values()) for each in some], axis=0)
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(means) / math.sqrt(PICTURES), rel=0.15)


def test_what_lies_in_the_folder_is_collected(tmp_path: Path) -> None:
    of = study()
    judged(0.7, 0).save(tmp_path / "one-1" / "scores" / "validation")
    (tmp_path / "one-1" / "metrics.csv").write_text("epoch,seconds\n1,30\n")
    none, one, _ = collect(of, tmp_path, {"none-2": "the loss became nan"})
    assert none.failed == {2: "the loss became nan"}
    assert (list(one.scores), one.minutes) == ([1], 0.5)


def test_the_table_as_text_and_as_numbers(tmp_path: Path) -> None:
    of = study()
    cells = results(LEVELS, of)
    cells[2] = CellResult(cells[2].cell, failed={0: "why | not"})
    result = StudyResult(
        of, tmp_path, PICTURES, tuple(cells), lines(cells, "dice_image"), verdicts(of, cells)
    )
    text = page.markdown_table(result).splitlines()
    assert len(text) == 5
    assert len({line.count("|") for line in text}) == 1
    assert "seed 0 failed" in text[4]
    rows = list(csv.DictReader(io.StringIO(page.csv_table(result))))
    assert float(rows[1]["dice_image"]) == result.lines[1].mean
    assert rows[1]["epochs"] == "2 2 2"
    assert f"{result.lines[1].mean:.3f}" in text[3]


def test_the_page_is_one_file_and_escapes(tmp_path: Path) -> None:
    of = study(CELLS.replace("none", "<b>none</b>") + "\nabout: <script>")
    levels = {cell.name: LEVELS["one"] for cell in of.cells}
    cells = tuple(results(levels, of))
    result = StudyResult(
        of, tmp_path, PICTURES, cells, lines(cells, "dice_image"), failed={"x": "<i>the reason</i>"}
    )
    (tmp_path / "study.yaml").write_text("a: <b>\n")
    page.write_pages(result)
    text = (tmp_path / "study.html").read_text()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;i&gt;the reason" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("data:image/svg+xml") == 2
    said = (tmp_path / "study.md").read_text()
    assert "![curves](curves.png)" in said
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
