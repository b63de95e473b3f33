"""How far a score would move with other pictures of the same kind.

Intervals are percentile bootstrap intervals (Efron 1979): groups (patients, videos; or single images) are
drawn with replacement, since images of one group say the same thing more than once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from maskwright.metrics.measures import Features, Values

RESAMPLES = 2000
FEW_GROUPS = 10
"""Below this, percentile intervals are much too narrow; the reader is told."""

Interval: TypeAlias = tuple[float, float]
NO_INTERVAL = (math.nan, math.nan)


def by_group(rows: Features, groups: Sequence[str]) -> Features:
    """Feature sums of each group (G ...), in the order of the groups' names: that of the images changes nothing."""
    _, group_of_N = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group_of_N.max()) + 1
    sums = {name: np.zeros((number, *values.shape[1:])) for name, values in rows.items()}
    for name, values in rows.items():
        np.add.at(sums[name], group_of_N, values)
    return sums


def resample(sums_by_group: Features, resamples: int = RESAMPLES, seed: int = 0) -> Features:
    """Feature sums (R ...) of `resamples` draws of as many groups as there are, with replacement.

    What is drawn depends on the number of groups and the seed alone, so for scores of the same groups sample r is of
    the same draw: differences and means of several runs can be taken sample by sample.
    """
    number = len(next(iter(sums_by_group.values())))
    random = np.random.default_rng(seed)
    drawn: dict[str, list[Values]] = {name: [] for name in sums_by_group}
    for rows in _batches(resamples, max(1, 2**22 // number)):
        weights_RG = random.multinomial(number, np.full(number, 1 / number), size=rows).astype(np.float64)
        for name, sums in sums_by_group.items():
            drawn[name].append(np.tensordot(weights_RG, sums, axes=1))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def percentile(samples_R: Values) -> Interval:
    """The middle 95 % of the defined samples."""
    defined = samples_R[~np.isnan(samples_R)]
    if not len(defined):
        return NO_INTERVAL
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _batches(total: int, size: int) -> Iterator[int]:
    """Parts of at most `size` that add up to `total`: 2^22 weights at a time stay under 64 MB."""
    for start in range(0, total, size):
        yield min(size, total - start)
