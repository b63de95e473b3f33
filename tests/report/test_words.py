"""The verdict in words says what the numbers say, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwright.config import AugmentConfig, LossConfig, Recipe
from maskwright.metrics.anatomy import KINDS
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import Scores, scores
from maskwright.report.words import MENDED_BY, confused, percent, shares_of_truth, verdict

CONFUSION = np.array([[98, 1, 1], [30, 50, 20], [0, 0, 0]])


def two_classes(dice: list[float], groups: list[str] | None = None) -> Scores:
    """Pictures of 2,000 pixels whose class 1 has exactly these Dice values."""
    counts = np.zeros((len(dice), 2, 4), np.int64)
    for picture, value in enumerate(dice):
        right = round(100 * value)
        counts[picture] = [1900, 100 - right, 100 - right, 0], [right, 100 - right, 100 - right, 0]
    return scores(counts, [f"p{number:02}" for number in range(len(dice))], ("sky", "cat"), groups=groups)


def three_classes() -> Scores:
    """12 pictures; class 2 is rare and mostly missed."""
    counts = np.zeros((12, 3, 4), np.int64)
    counts[:, 0], counts[:, 1], counts[:, 2] = (900, 10, 10, 0), (800, 10, 10, 0), (2, 8, 8, 0)
    return scores(counts, [str(number) for number in range(12)], ("sky", "road", "pole"))


def said(given: Scores, split: str = "test", **changes: object) -> str:
    found = verdict("pets", Recipe(), {split: given}, **changes)  # type: ignore[arg-type]
    return "\n".join([found.lead, *found.findings, *found.warnings, *(step.text for step in found.steps)])


def test_the_lead_names_what_it_tells_apart_and_how_well() -> None:
    given = two_classes([0.8, 0.9] * 6)
    assert (
        verdict("pets", Recipe(), {"test": given}).lead
        == "It tells cat from sky with a Dice of 0.850 per picture."
    )
    many = three_classes()
    lead = verdict("cam", Recipe(), {"test": many}).lead
    assert lead == f"It tells 3 classes apart with a mean IoU of {many['miou'].value:.3f}."


def test_pictures_that_it_fails_on_are_named_worst_first() -> None:
    text = said(two_classes([0.95] * 18 + [0.4, 0.2]))
    assert "It fails on 2 pictures (10\u00a0% of them, under 0.5): p19, p18." in text
    assert "Half of the pictures have a Dice of 0.950 or more; 90\u00a0% reach 0.9." in text


def test_many_failures_are_a_part_and_no_list() -> None:
    text = said(two_classes([0.3] * 8 + [0.7] * 12))
    assert "8 of 20 pictures (40\u00a0%) stay under 0.5; the hardest are p00, p01, p02." in text
    assert "It fails on" not in text
    assert "reach" not in text


def test_where_none_fails_the_hardest_is_named() -> None:
    assert "None stays under 0.5; the hardest is p03 with 0.600." in said(two_classes([0.9, 0.8, 0.9, 0.6]))


def test_pictures_without_foreground_have_no_dice() -> None:
    counts = np.zeros((3, 2, 4), np.int64)
    counts[:, 0, 0] = 100
    assert "No picture has a foreground." in said(scores(counts, ["a", "b", "c"], ("sky", "cat")))


def test_the_extremes_of_many_classes_are_named() -> None:
    given = three_classes()
    road, pole = (given.per_class[k].iou_global for k in (1, 2))
    sky = given.per_class[0].iou_global
    assert sky > road > pole
    assert f"Best class: sky, IoU {sky:.3f}. Weakest: pole, IoU {pole:.3f}." in said(given)


def test_validation_alone_asks_for_the_test_split() -> None:
    first = verdict("pets", Recipe(), {"validation": two_classes([0.9] * 12)}).steps[0]
    assert first.code == "maskwright evaluate pets --split test"
    found = verdict("pets", Recipe(), {"test": two_classes([0.9] * 12)})
    assert not any("--split test" in step.code for step in found.steps)
    assert "which training never saw" in said(two_classes([0.9] * 12))


def test_without_a_test_split_none_is_asked_for() -> None:
    first = verdict("pets", Recipe(), {"validation": two_classes([0.9] * 12)}, testable=False).steps[0]
    assert "--split test" not in first.code
    assert "splits: {train: train.txt, test: test.txt}" in first.code
    assert "train --folds 5" in first.text


def test_few_groups_are_a_warning_and_a_step() -> None:
    text = said(two_classes([0.9] * 12, groups=["a", "b", "c"] * 4))
    assert "Score it on more groups (scenes, patients, videos): 3 groups cannot say how it varies." in text
    assert "Score it on more groups" not in said(two_classes([0.9] * 12))


@pytest.mark.parametrize(
    ("dice", "loss", "best", "expected"),
    [
        ([0.1 * epoch for epoch in range(10)], [1 - 0.05 * epoch for epoch in range(10)], 10, "Train longer"),
        (
            [0.5, 0.7, 0.8] + [0.8] * 7,
            [1, 0.5, 0.4] + [0.6] * 7,
            3,
            "validation loss has risen since epoch 3",
        ),
        ([0.5, 0.7, 0.8] + [0.8] * 7, [1, 0.5] + [0.4] * 8, 9, ""),
    ],
)
def test_training_that_was_too_short_or_too_long(
    dice: list[float], loss: list[float], best: int, expected: str
) -> None:
    rows = [{"val_dice_image": d, "val_loss": v} for d, v in zip(dice, loss, strict=True)]
    text = said(two_classes([0.9] * 12), metrics=rows, best_epoch=best)
    for sentence in ("Train longer", "validation loss has risen since epoch 3"):
        assert (sentence in text) == (sentence == expected)


def test_rare_classes_are_to_be_weighed_unless_they_are() -> None:
    given = {"test": three_classes()}
    steps = verdict("cam", Recipe(), given).steps
    assert "loss.class_weights=balanced" in [step.code for step in steps]
    weighed = verdict("cam", Recipe(loss=LossConfig(class_weights="balanced")), given).steps
    assert any("they need more pictures" in step.text for step in weighed)


def slipping(kind: int) -> Scores:
    """12 pictures of which half of the lost pixels of class 1 are of one kind, the rest of none that was counted."""
    given = two_classes([0.8] * 12)
    mended = np.repeat(given.counts_NK4[:, None], 5, 1)
    mended[:, kind, 1, 0] += 10
    mended[:, kind, 1, 2] -= 10
    tallies = Tallies(given.counts_NK4, anatomy_NEK4=mended.astype(np.int32))
    return scores(tallies, given.ids, ("sky", "cat"))


def test_the_most_rewarding_kind_of_error_is_named_with_what_it_would_give() -> None:
    before, after = 80 / 120, 90 / 120
    text = said(slipping(1))
    assert (
        f"Most is lost to missed objects or parts: 25\u00a0% of the wrong pixels, {(after - before) / 2:+.3f} mean IoU"
        in text
    )
    assert "Let it see finer" not in text
    assert MENDED_BY["missed"] in text
    assert "Most is lost" not in said(two_classes([0.8] * 12))


def test_lost_contours_ask_for_a_larger_input() -> None:
    height, width = Recipe().input.size
    steps = verdict("pets", Recipe(), {"test": slipping(0)}).steps
    assert f"input.size={2 * height},{2 * width}" in [step.code for step in steps]


def test_every_kind_of_error_has_its_remedy() -> None:
    assert set(MENDED_BY) | {"slip"} == set(KINDS)


def test_there_is_always_something_to_do_and_never_much() -> None:
    for given in (two_classes([0.9] * 12), two_classes([0.9, 0.1], groups=["a", "a"]), three_classes()):
        for recipe in (Recipe(), Recipe(augment=AugmentConfig(flip=False))):
            assert 1 <= len(verdict("r", recipe, {"validation": given}).steps) <= 3


def test_confusions_are_shares_of_the_true_class() -> None:
    assert shares_of_truth(CONFUSION).tolist() == [[0.98, 0.01, 0.01], [0.3, 0.5, 0.2], [0, 0, 0]]
    assert confused(CONFUSION, ("a", "b", "c")) == [
        ("b", "a", 0.3),
        ("b", "c", 0.2),
        ("a", "b", 0.01),
        ("a", "c", 0.01),
    ]
    assert confused(CONFUSION, ("a", "b", "c"), most=1) == [("b", "a", 0.3)]
    assert confused(np.diag([5, 5]), ("a", "b")) == []


def test_a_little_is_not_nothing() -> None:
    assert [percent(share) for share in (0, 0.001, 0.034, 1)] == [
        "0\u00a0%",
        "under 1\u00a0%",
        "3\u00a0%",
        "100\u00a0%",
    ]


def test_advice_becomes_sentences() -> None:
    given = replace(two_classes([0.9] * 12), advice=("left out: 1 picture",))
    assert verdict("r", Recipe(), {"test": given}).warnings == ("Left out: 1 picture.",)
