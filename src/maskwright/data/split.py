"""Seeded splits: stratified by a share (of foreground), groups kept whole.

The order is decided by hashes of (seed, group), not by a stream of random numbers: it depends neither on the
order of the items nor on a library's version.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from maskwright.config import suggest
from maskwright.data.documents import read_text
from maskwright.data.part import Part
from maskwright.data.sources.common import DataConfig, Pair, split_name
from maskwright.errors import ConfigError, DataError

_APART = "name a validation split of its own, or set validation: {fraction: 0}"
_SMALLER = (
    'choose a smaller block in dataset.yaml and groups: "{id:before last @}" (each block is one), or '
    + _APART
)
"""What divides one raster."""

_TEMPLATE = re.compile(r"\{id(?::before (?P<last>last )?(?P<mark>[^}]+))?\}")


def groups_of(ids: Sequence[str], rule: str, root: Path) -> list[str]:
    """The group of each id by `rule`.

    `{id}`: its own; `{id:before _}`: what stands before the first underscore; `{id:before last /}`: before the
    last slash; text around the braces is kept. Anything without braces is a CSV file `id,group` below `root`.
    Raises ConfigError or DataError.
    """
    if "{" not in rule:
        return _groups_of_file(ids, root / rule)
    match = _TEMPLATE.search(rule)
    if match is None:
        raise ConfigError(
            f"groups: {rule} is not understood", "write {id}, {id:before _}, or a CSV file's name"
        )
    mark, last = match["mark"], match["last"] is not None
    names = []
    for name in ids:
        part = name
        if mark is not None and mark in name:
            part = name.rpartition(mark)[0] if last else name.partition(mark)[0]
        names.append(f"{rule[: match.start()]}{part}{rule[match.end() :]}")
    return names


def _groups_of_file(ids: Sequence[str], path: Path) -> list[str]:
    try:
        lines = read_text(path).splitlines()
    except DataError as error:
        raise DataError(
            f"groups: {path} cannot be read: {error.problem}", "write {id:before _}, or a CSV file id,group"
        ) from error
    group_of: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in lines)):
        name, comma, group = line.rpartition(",")
        if not comma:
            raise DataError(f"{path} holds the line {line!r}", "each line is id,group")
        group_of[name.strip()] = group.strip()
    missing = [name for name in ids if name not in group_of]
    if missing:
        raise DataError(
            f"{path} has no group for {missing[0]} and {len(missing) - 1} more", "add a line id,group"
        )
    return [group_of[name] for name in ids]


def _of_raster(pair: Pair) -> bool:
    return isinstance(pair.image, Part) and pair.image.form == "raster"


def draw_validation(
    groups: Sequence[str],
    shares: Sequence[float],
    fraction: float,
    seed: int,
    hint: str = _APART,
) -> frozenset[int]:
    """The rows that validate: about `fraction` of them, whole groups, spread evenly over the shares.

    Groups are sorted by their mean share and cut into as many strata as groups are wanted; one group of each
    stratum is drawn, then a second, as long as that brings the number of rows closer to `fraction`. At least
    one group is drawn and one is left. Raises DataError, with `hint`, when there is one group only.
    """
    if fraction == 0 or not groups:
        return frozenset()
    members = _members(groups)
    if len(members) == 1:
        raise DataError(
            f"all {len(groups)} training images are one group ({groups[0]}), which cannot be divided",
            hint,
        )
    wanted = fraction * len(groups)
    strata = min(max(1, round(wanted * len(members) / len(groups))), len(members))
    chosen: list[int] = []
    taken = 0
    for group in _spread(members, shares, strata, seed):
        rows = members[group]
        closer = abs(len(chosen) + len(rows) - wanted) < abs(len(chosen) - wanted)
        if closer and taken < len(members) - 1:
            chosen += rows
            taken += 1
    if not chosen:
        chosen = min(members.values(), key=len)
    return frozenset(chosen)


def draw_folds(groups: Sequence[str], shares: Sequence[float], folds: int, seed: int) -> list[int]:
    """The fold 0 .. folds-1 in which each row validates; whole groups, of even size and even shares.

    Sorted by share and cut into strata of `folds` groups; each stratum deals its groups to the smallest folds.
    Raises DataError with fewer groups than folds.
    """
    members = _members(groups)
    if len(members) < folds:
        raise DataError(
            f"{len(members)} groups cannot be cut into {folds} folds", f"use {len(members)} or fewer"
        )
    ordered = sorted(members, key=lambda group: (_mean(members[group], shares), _rank(seed, group)))
    sizes = [0] * folds
    fold_of = [0] * len(groups)
    for start in range(0, len(ordered), folds):
        stratum = sorted(ordered[start : start + folds], key=lambda group: _rank(seed, group))
        stratum.sort(key=lambda group: -len(members[group]))
        free = sorted(range(folds), key=lambda fold: (sizes[fold], _rank(seed, f"{start} {fold}")))
        for group, fold in zip(stratum, free, strict=False):
            sizes[fold] += len(members[group])
            for row in members[group]:
                fold_of[row] = fold
    return fold_of


def straddling(groups: Sequence[str], splits: Sequence[str]) -> dict[str, list[str]]:
    """Groups with rows in more than one split -> those splits."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        seen[group].add(split)
    return {group: sorted(found) for group, found in seen.items() if len(found) > 1}


def _members(groups: Sequence[str]) -> dict[str, list[int]]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    return dict(members)


def _mean(rows: Sequence[int], shares: Sequence[float]) -> float:
    return sum(shares[row] for row in rows) / len(rows)


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def _spread(members: dict[str, list[int]], shares: Sequence[float], strata: int, seed: int) -> list[str]:
    """All groups: one at random of each stratum, in random order of the strata, then a second of each, ..."""
    ordered = sorted(members, key=lambda group: (_mean(members[group], shares), _rank(seed, group)))
    bounds = [round(stratum * len(ordered) / strata) for stratum in range(strata + 1)]
    rounds: list[tuple[int, bytes, str]] = []
    for start, end in pairwise(bounds):
        drawn = sorted(ordered[start:end], key=lambda group: _rank(seed, group))
        rounds += [(turn, _rank(seed, f"{start} of {strata}"), group) for turn, group in enumerate(drawn)]
    return [group for _, _, group in sorted(rounds)]


def assign_splits(
    pairs: Sequence[Pair], groups: Sequence[str], shares: Sequence[float], config: DataConfig, told: str
) -> list[str]:
    """train, validation, test or unlabelled for each pair, from the lists of the layout and the rule for validation.

    `shares` of foreground stratify what is drawn. Raises ConfigError for rules that contradict the lists.
    """
    splits = ["unlabelled" if pair.mask is None else split_name(pair.origin, told) for pair in pairs]
    draw = config.validation
    if draw is None:
        return splits
    if draw.folds is not None:
        if draw.fold >= draw.folds:
            raise ConfigError(
                f"validation: fold {draw.fold} of {draw.folds}", f"folds are 0 to {draw.folds - 1}"
            )
        rows = [row for row, split in enumerate(splits) if split in ("train", "validation")]
        folds = draw_folds(
            [groups[row] for row in rows], [shares[row] for row in rows], draw.folds, draw.seed
        )
        for row, fold in zip(rows, folds, strict=True):
            splits[row] = "validation" if fold == draw.fold else "train"
        return splits
    if "validation" in splits and draw.fraction > 0:
        raise ConfigError(f"{told} lists a validation split and draws one", "keep one of the two")
    rows = [
        row
        for row, pair in enumerate(pairs)
        if splits[row] != "unlabelled" and split_name(pair.origin, told) == split_name(draw.from_, told)
    ]
    if not rows and "from_" in draw.model_fields_set:
        origins = list(dict.fromkeys(pair.origin for pair in pairs))
        raise ConfigError(
            f"validation is drawn from {draw.from_!r}, which is empty", suggest(draw.from_, origins)
        )
    drawn = draw_validation(
        [groups[row] for row in rows],
        [shares[row] for row in rows],
        draw.fraction,
        draw.seed,
        _SMALLER if any(_of_raster(pairs[row]) for row in rows) else _APART,
    )
    for place, row in enumerate(rows):
        splits[row] = "validation" if place in drawn else "train"
    return splits
