"""Rows and plots of the page, against what they are drawn from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from maskwright.metrics.anatomy import KINDS as ERROR_KINDS
from maskwright.metrics.calibration import Calibration, Foresight, Reliability
from maskwright.metrics.measures import METRICS, SURFACE_METRICS, Tallies
from maskwright.metrics.objects import SIZES
from maskwright.metrics.scores import Scores, scores
from maskwright.report import sections

NAMES = ("sky", "cat", "dog")
CURVE = Reliability(
    low=(0.0, 0.5, 0.75),
    high=(0.5, 0.75, 1.0),
    pixels=(0, 100, 300),
    confidence=(math.nan, 0.6, 0.9),
    accuracy=(math.nan, 0.5, 0.9),
)
SEEN = Foresight(
    expected=0.8,
    true=0.78,
    error=0.05,
    spearman=0.7,
    coverage=tuple((n + 1) / 10 for n in range(10)),
    risk=tuple(0.01 * (n + 1) for n in range(10)),
    aurc=0.055,
    aurc_best=0.04,
    aurc_random=0.1,
)
HONEST = Calibration(
    temperature=1.25,
    ece=0.025,
    brier=0.1,
    reliability=CURVE,
    ece_before=0.05,
    reliability_before=CURVE,
    foresight=SEEN,
)


def made(classes: int = 3) -> Scores:
    counts = np.random.default_rng(0).integers(1, 90, (6, classes, 4)).astype(np.int64)
    mended = np.repeat(counts[:, None], 5, 1).astype(np.int32)
    mended[:, 0, 1:, 2] -= np.minimum(mended[:, 0, 1:, 2], 20)
    mended[:, 3, 2, 2] -= 1
    objects = np.zeros((6, 3, 5))
    objects[:, 0], objects[:, 2] = (4, 1, 2, 2, 3), (2, 2, 2, 2, 0)
    names = [f"class {k}" for k in range(classes)]
    tallies = Tallies(counts, anatomy_NEK4=mended, objects_NS5=objects)
    confusion = np.arange(classes**2).reshape(classes, classes)
    return replace(scores(tallies, list("abcdef"), names), confusion_KK=confusion)


def test_every_metric_and_kind_has_a_name_for_people() -> None:
    assert {*METRICS, *SURFACE_METRICS, "ece", "brier"} <= set(sections.LABELS)
    assert set(sections.KINDS) == set(ERROR_KINDS)
    assert set(sections.SPANS) == set(SIZES)


def test_every_score_of_every_evaluation_has_a_cell() -> None:
    first, second = made(), made()
    table = sections.every_score({"test": first, "validation": second})
    assert [entry["name"] for entry in table["names"]] == ["test", "validation"]
    rows = {row["key"]: row["figures"] for row in table["rows"]}
    assert set(rows) == set(first.metrics)
    for key, figures in rows.items():
        assert [figure.value for figure in figures] == [first[key].value, second[key].value]


def test_rows_of_the_matrix_are_shares_of_a_true_class() -> None:
    matrix = sections.matrix(made())
    assert matrix is not None
    cells = [[cell["text"] for cell in row["cells"]] for row in matrix["rows"]]
    assert cells == [["", "33", "67"], ["25", "33", "42"], ["29", "33", "38"]]
    first = matrix["rows"][1]["cells"][2]
    assert first["title"] == "class 1 taken for class 2: 5 pixels, 41.7% of class 1"
    assert matrix["words"][0] == "67\u00a0% of class 0 is taken for class 2"
    assert sections.matrix(replace(made(), confusion_KK=None)) is None


@pytest.mark.parametrize(
    ("classes", "shown", "digits"), [(14, True, True), (15, True, False), (41, False, False)]
)
def test_many_classes_lose_first_their_numbers_then_their_matrix(
    classes: int, shown: bool, digits: bool
) -> None:
    matrix = sections.matrix(made(classes))
    assert matrix is not None
    assert (bool(matrix["rows"]), matrix["digits"]) == (shown, digits)
    assert matrix["words"]


def test_errors_stand_in_the_order_of_what_they_cost() -> None:
    given = made()
    rows = sections.errors(given)
    assert [row["name"] for row in rows] == ["boundary slips", "class swaps"]
    assert rows[0]["percent"] == 100.0
    assert rows[0]["miou"] == f"{given.anatomy[0].miou_gain:+.3f}"


def test_sizes_of_objects() -> None:
    small, medium, large = sections.sizes(made())
    assert (small["objects"], small["invented"], small["span"]) == ("24", "18", "under 32 × 32 pixels")
    assert small["found"].text == "0.250"
    assert medium["found"].text == "–"
    assert large["found"].text == "1.000"


def test_scores_of_before_have_neither() -> None:
    given = scores(made().counts_NK4, list("abcdef"), NAMES)
    assert sections.errors(given) == sections.sizes(given) == []


def test_confidence_in_words() -> None:
    found = sections.confidence(HONEST)
    assert found is not None
    assert found["reliability"].startswith(
        "Of the pixels of which it is 90\u00a0% sure, 90\u00a0% are right; they are 75\u00a0% of all."
    )
    assert "by 0.025 on average (0.050 before its logits were divided by 1.25)" in found["reliability"]
    assert "foretold to 0.050 on average (rank correlation 0.70)" in found["coverage"]
    assert "mean Dice of 0.910 instead of 0.900" in found["coverage"]


def test_what_was_not_counted_is_not_said() -> None:
    cold = sections.confidence(replace(HONEST, temperature=1.0, foresight=None))
    assert cold is not None
    assert "before" not in cold["reliability"]
    assert cold["coverage"] == ""
    assert sections.confidence(replace(HONEST, ece=math.nan)) is None
    assert sections.confidence(None) is None
