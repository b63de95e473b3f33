"""What is wrong between splits: twins on both sides, classes that are missing, drift of colours and of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import ks_2samp

from maskwright.audit.findings import Evidence, Finding, Mending
from maskwright.audit.looks import FEATURES
from maskwright.audit.twins import Twins
from maskwright.data.dataset import Item
from maskwright.data.split import straddling

_ORDER = ("test", "validation", "train", "unlabelled")
"""Of twins the first in this order stays: what is judged on is not changed."""
_LEAST = 20
"""Groups in a split below which nothing is said about drift."""
_FAR = 0.25
"""Smallest distance between two distributions (Kolmogorov and Smirnov's D) that is worth a word."""
_SURE = 0.01
_WATCHED = (
    "brightness, percentile 50",
    "contrast",
    "red against green",
    "yellow against blue",
    "saturation",
    "detail of 1 px",
    "detail of 4 px",
)
"""The features whose drift a person can understand."""


def sets_of_twins(items: Sequence[Item], twins: Sequence[Twins]) -> dict[str, int]:
    """Id -> number of its set, for items that have a twin."""
    ones, others = [pair.first for pair in twins], [pair.second for pair in twins]
    graph = coo_matrix((np.ones(len(twins)), (ones, others)), shape=(len(items), len(items)))
    labels = connected_components(graph, directed=False)[1]
    return {items[row].id: int(labels[row]) for row in sorted({*ones, *others})}


def twins_between(items: Sequence[Item], twins: Sequence[Twins], *, grouped: bool) -> Iterator[Finding]:
    """Exact and near twins, across splits and within one. Twins within a group of one split are expected."""
    numbers = sets_of_twins(items, twins)
    across, within, expected = [], [], []
    gone_across, gone_within = list[str](), list[str]()
    for pair in twins:
        one, other = sorted(
            (items[pair.first], items[pair.second]), key=lambda item: _ORDER.index(item.split)
        )
        says = "the same pixels" if pair.likeness == 1 else f"likeness {pair.likeness:.3f}"
        case = Evidence((one.id, other.id), f"{one.split} and {other.split}: {says}")
        if one.split != other.split and "unlabelled" not in (one.split, other.split):
            across.append(case)
        elif grouped and one.group == other.group:
            expected.append(case)
        else:
            within.append(case)
    kept: dict[int, Item] = {}
    crossing = {numbers[case.ids[0]] for case in across}
    named = {name for case in (*across, *within) for name in case.ids}
    for item in sorted(items, key=lambda item: _ORDER.index(item.split)):
        if item.id in named:
            first = kept.setdefault(numbers[item.id], item)
            if item is not first and item.split in ("train", "validation"):
                (gone_across if numbers[item.id] in crossing else gone_within).append(item.id)
    if across:
        yield Finding(
            "twins-across-splits",
            "error",
            "Pictures are the same, or almost, in different splits: scores flatter",
            tuple(across),
            "keep one of each: the test picture stays, its twins leave train and validation",
            Mending(exclude=tuple(gone_across)),
        )
    if within:
        yield Finding(
            "twins",
            "warning",
            "Pictures are the same, or almost, within a split",
            tuple(within),
            "keep one of each, or give twins one group, so that intervals do not count them twice",
            Mending(exclude=tuple(gone_within)),
        )
    if expected:
        yield Finding(
            "twins-of-a-group",
            "note",
            "Pictures of the same group are almost the same",
            tuple(expected),
            "expected of neighbouring frames of a video; they teach less than their number says",
        )


def torn_groups(items: Sequence[Item]) -> Iterator[Finding]:
    """Groups (patients, videos) with labelled pictures in more than one split."""
    labelled = [item for item in items if item.split != "unlabelled"]
    torn = straddling([item.group for item in labelled], [item.split for item in labelled])
    cases = []
    for group, splits in torn.items():
        members = [item for item in labelled if item.group == group]
        counts = (f"{sum(item.split == split for item in members)} in {split}" for split in splits)
        cases.append(Evidence(tuple(item.id for item in members), f"group {group}: {', '.join(counts)}"))
    if cases:
        yield Finding(
            "groups-across-splits",
            "warning",
            "Groups lie in more than one split: scores flatter",
            tuple(cases),
            "keep all pictures of a group in one split: what is learned of a patient or a video is known again",
        )


def missing_classes(names: Sequence[str], shares: Mapping[str, Int64[np.ndarray, " K"]]) -> Iterator[Finding]:
    """`shares`: split -> pixels per class."""
    cases = []
    whole = sum(shares.values())
    for split, counts in shares.items():
        absent = [name for name, here in zip(names, counts, strict=True) if not here]
        cases += [Evidence((), f"{split} has no pixel of {name}") for name in absent]
    if cases and np.any(whole):
        lacking = len({case.says.split()[0] for case in cases})
        yield Finding(
            "missing-class",
            "warning",
            f"{lacking} of {len(shares)} splits lack a class",
            tuple(cases),
            "what train lacks cannot be learnt, what test lacks cannot be judged: draw the splits anew, stratified, or "
            "take the class out",
        )


def drift(
    items: Sequence[Item],
    features: Mapping[str, Float64[np.ndarray, " F"]],
    pixels: Mapping[str, Int64[np.ndarray, " K"]],
    names: Sequence[str],
) -> Iterator[Finding]:
    """Colour, texture and shares of classes of train against validation and test.

    Two-sample tests of Kolmogorov and Smirnov on means of groups (pictures of one patient or drive are no independent
    witnesses), all p values corrected together (Holm, 1979); said are those below 0.01 whose distance D is large.
    """
    columns: dict[str, dict[str, float]] = {
        name: {id_: float(row[FEATURES.index(name)]) for id_, row in features.items()} for name in _WATCHED
    }
    for place, name in enumerate(names):
        columns[f"share of {name}"] = {
            id_: float(counts[place] / counts.sum()) for id_, counts in pixels.items() if counts.sum()
        }
    tested: list[tuple[float, float, str]] = []
    for split in ("validation", "test"):
        for name, column in columns.items():
            ours, theirs = _groups(items, "train", column), _groups(items, split, column)
            if min(len(ours), len(theirs)) < _LEAST:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # switches to the asymptotic p by itself
                result = ks_2samp(ours, theirs)
            says = (
                f"{split}: {name}, median {np.median(theirs):.3g} instead of {np.median(ours):.3g} in train "
                f"(D {result.statistic:.2f})"
            )
            tested.append((float(result.pvalue), float(result.statistic), says))
    said = []
    for rank, (p, distance, says) in enumerate(sorted(tested)):
        if p * (len(tested) - rank) >= _SURE:
            break
        if distance >= _FAR:
            said.append((distance, says))
    if said:
        yield Finding(
            "drift",
            "warning",
            f"splits differ from train in {len(said)} respects",
            tuple(Evidence((), says) for _, says in sorted(said, reverse=True)),
            "if the splits were meant to be alike, draw them anew; if not, expect scores that say less about train's "
            "kind of picture",
        )


def _groups(items: Sequence[Item], split: str, column: Mapping[str, float]) -> list[float]:
    by_group: dict[str, list[float]] = {}
    for item in items:
        if item.split == split and item.id in column:
            by_group.setdefault(item.group, []).append(column[item.id])
    return [float(np.mean(values)) for values in by_group.values()]
