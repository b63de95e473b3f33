"""Splits: whole groups, even shares, the same for everybody who uses the same seed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.split import draw_folds, draw_validation, groups_of, straddling
from maskwright.errors import ConfigError, DataError

SHARES = np.random.default_rng(0).beta(0.5, 2, 600).tolist()
IDS = [f"cat_{row}" for row in range(600)]


def test_a_tenth_is_drawn_with_the_shares_of_the_whole() -> None:
    drawn = draw_validation(IDS, SHARES, 0.1, seed=0)
    assert len(drawn) == 60
    quantiles = np.quantile(SHARES, [0.1, 0.5, 0.9])
    found = np.quantile([SHARES[row] for row in drawn], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(found, quantiles, atol=0.03)


def test_one_of_each_stratum() -> None:
    shares = [row / 100 for row in range(100)]
    drawn = sorted(draw_validation(IDS[:100], shares, 0.1, seed=5))
    assert [row // 10 for row in drawn] == list(range(10))


def test_the_seed_decides_and_the_order_does_not() -> None:
    drawn = draw_validation(IDS, SHARES, 0.1, seed=0)
    assert drawn == draw_validation(IDS, SHARES, 0.1, seed=0)
    assert drawn != draw_validation(IDS, SHARES, 0.1, seed=1)
    turned = draw_validation(IDS[::-1], SHARES[::-1], 0.1, seed=0)
    assert {IDS[::-1][row] for row in turned} == {IDS[row] for row in drawn}


def test_known_draw() -> None:
    """Written down once: whoever changes the draw changes everybody's validation set."""
    assert sorted(draw_validation(IDS[:20], SHARES[:20], 0.2, seed=0)) == KNOWN


KNOWN = [1, 6, 9, 15]


groups_and_shares = st.lists(
    st.tuples(st.sampled_from([f"g{number}" for number in range(12)]), st.floats(0, 1)),
    min_size=2,
    max_size=60,
)


@given(groups_and_shares, st.floats(0.05, 0.9), st.integers(0, 5))
def test_groups_stay_whole(rows: list[tuple[str, float]], fraction: float, seed: int) -> None:
    groups, shares = [group for group, _ in rows], [share for _, share in rows]
    if len(set(groups)) == 1:
        with pytest.raises(DataError, match="one group"):
            draw_validation(groups, shares, fraction, seed)
        return
    drawn = draw_validation(groups, shares, fraction, seed)
    inside = {groups[row] for row in drawn}
    assert inside.isdisjoint(groups[row] for row in range(len(rows)) if row not in drawn)
    assert 0 < len(drawn) < len(rows)


def test_large_groups_come_as_close_as_they_can() -> None:
    groups = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
    for seed in range(5):
        drawn = draw_validation(groups, [0.5] * 100, 0.2, seed)
        assert len(drawn) in (20, 30)


def test_no_fraction_no_validation() -> None:
    assert draw_validation(IDS, SHARES, 0, 0) == frozenset()


@given(groups_and_shares, st.integers(2, 5), st.integers(0, 5))
def test_folds_partition_whole_groups(rows: list[tuple[str, float]], folds: int, seed: int) -> None:
    groups, shares = [group for group, _ in rows], [share for _, share in rows]
    if len(set(groups)) < folds:
        with pytest.raises(DataError, match="cannot be cut"):
            draw_folds(groups, shares, folds, seed)
        return
    fold_of = draw_folds(groups, shares, folds, seed)
    assert set(fold_of) == set(range(folds))
    seen = defaultdict(set)
    for group, fold in zip(groups, fold_of, strict=True):
        seen[group].add(fold)
    assert all(len(found) == 1 for found in seen.values())


def test_folds_are_even_in_size_and_share() -> None:
    fold_of = np.array(draw_folds(IDS, SHARES, 5, seed=0))
    assert np.bincount(fold_of).tolist() == [120] * 5
    means = [np.mean(np.array(SHARES)[fold_of == fold]) for fold in range(5)]
    assert max(means) - min(means) < 0.01
    assert fold_of.tolist() != draw_folds(IDS, SHARES, 5, seed=1)


def test_folds_of_unequal_groups_fill_up_evenly() -> None:
    """Fifteen groups of 1 to 15 rows; dealt without looking at the sizes, folds differ by up to 41."""
    groups = [f"g{size}" for size in range(1, 16) for _ in range(size)]
    for seed in range(8):
        sizes = np.bincount(draw_folds(groups, [0.5] * len(groups), 3, seed))
        assert sizes.max() - sizes.min() <= 15


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("{id}", ["a_1_x", "b/c_2", "d"]),
        ("{id:before _}", ["a", "b/c", "d"]),
        ("{id:before last _}", ["a_1", "b/c", "d"]),
        ("{id:before last /}", ["a_1_x", "b", "d"]),
        ("clinic-{id:before _}", ["clinic-a", "clinic-b/c", "clinic-d"]),
    ],
)
def test_group_templates(rule: str, groups: list[str]) -> None:
    assert groups_of(["a_1_x", "b/c_2", "d"], rule, Path()) == groups


def test_groups_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("id,group\na,p1\nb, p2\n\nc d,p1\n")
    assert groups_of(["c d", "b"], "groups.csv", tmp_path) == ["p1", "p2"]
    with pytest.raises(DataError, match="no group for x and 1 more"):
        groups_of(["x", "a", "y"], "groups.csv", tmp_path)
    (tmp_path / "odd.csv").write_text("just words")
    with pytest.raises(DataError, match="just words"):
        groups_of(["x"], "odd.csv", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        groups_of(["x"], "none.csv", tmp_path)


def test_unknown_template() -> None:
    with pytest.raises(ConfigError, match=r"\{name\}"):
        groups_of(["a"], "{name}", Path())


def test_straddling() -> None:
    found = straddling(["a", "a", "b", "b"], ["train", "test", "train", "train"])
    assert found == {"a": ["test", "train"]}
