"""Drift and twins between splits, on tables of a few numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskwright.audit.looks import FEATURES
from maskwright.audit.splits import drift, sets_of_twins, twins_between
from maskwright.audit.twins import Twins
from maskwright.data.dataset import Item


def items(train: int = 60, test: int = 60, per_group: int = 1) -> list[Item]:
    rows = []
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            name = f"{split}{number}"
            rows.append(Item(name, Path(name), None, split, f"{split} group {number // per_group}"))
    return rows


def said(rows: list[Item], *, darker: float = 0.0, sparser: float = 0.0) -> list[str]:
    """What drift says when test is darker and has less of the object."""
    random, features, pixels = np.random.default_rng(0), {}, {}
    for item in rows:
        away = item.split == "test"
        row = random.standard_normal(len(FEATURES))
        row[FEATURES.index("brightness, percentile 50")] -= darker * away
        features[item.id] = row
        share = random.uniform(0.2, 0.6) - sparser * away
        pixels[item.id] = np.array([1000 * (1 - share), 1000 * share]).astype(np.int64)
    return [
        case.says for finding in drift(rows, features, pixels, ["ground", "disc"]) for case in finding.cases
    ]


def test_alike_splits_have_no_drift() -> None:
    assert said(items()) == []


def test_darker_pictures_and_smaller_shares_are_told() -> None:
    (brightness,) = said(items(), darker=2)
    assert brightness.startswith("test: brightness, percentile 50")
    assert {line.split(",")[0] for line in said(items(), sparser=0.2)} == {
        "test: share of ground",
        "test: share of disc",
    }


def test_frames_of_few_drives_are_no_witnesses() -> None:
    assert said(items(per_group=30), darker=2) == []


def test_of_a_chain_of_twins_only_the_test_picture_stays() -> None:
    rows = items(3, 1)  # train0, train1, train2, test0
    pairs = [Twins(0, 3, 0.95), Twins(0, 1, 0.99)]
    assert len(set(sets_of_twins(rows, pairs).values())) == 1
    across, within = twins_between(rows, pairs, grouped=False)
    assert (across.id, across.severity, set(across.mending.exclude)) == (
        "twins-across-splits",
        "error",
        {"train0", "train1"},
    )
    assert (within.id, within.mending.exclude) == ("twins", ())


def test_twins_of_one_group_are_expected() -> None:
    rows = items(4, 0, per_group=2)
    found = [*twins_between(rows, [Twins(0, 1, 0.95), Twins(1, 2, 0.95)], grouped=True)]
    assert [(each.id, [case.ids for case in each.cases]) for each in found] == [
        ("twins", [("train1", "train2")]),
        ("twins-of-a-group", [("train0", "train1")]),
    ]
