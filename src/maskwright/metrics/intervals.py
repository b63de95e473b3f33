"""How far a score would move with other pictures of the same kind: intervals that cover what they promise.

Groups (patients, videos; or single images) are drawn with replacement, since images of one group say the same thing
more than once. The interval is the studentised bootstrap (Efron 1981; Hall 1988): each draw is judged in units of its
own standard error, which is what keeps its promise where scores are skewed and classes are rare. Percentile and BCa
intervals, which do not, are compared with it in docs/intervals.md.

A number is a function of sums of features, so its standard error needs no second bootstrap: with x_g the features of
group g, T = sum w_g x_g those of a draw, and grad f(T) x_g the influence of a group (the infinitesimal jackknife,
Jaeckel 1972),

    error^2 = G / (G - 1) * (sum_g w_g (grad f(T) x_g)^2 - (grad f(T) T)^2 / G).

The error of the number itself is the jackknife's, which is somewhat larger (Efron and Stein 1981): with few groups it
is the better promise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from maskwright.metrics.measures import Features, Values

RESAMPLES = 2000

FEW_COLUMNS = 6
"""Of features behind a number: up to here sums of their products are quicker."""

Interval: TypeAlias = tuple[float, float]
NO_INTERVAL = (math.nan, math.nan)

Judge: TypeAlias = Callable[[Features], Values]
"""Feature sums (R ...) -> R M: M numbers of every row, NaN where undefined."""


@dataclass(frozen=True, eq=False)
class Spread:
    """M numbers with standard errors and 95 % intervals; NaN where undefined."""

    values_M: Values
    errors_M: Values
    intervals: tuple[Interval, ...]


def by_group(rows: Features, groups: Sequence[str]) -> Features:
    """Feature sums of each group (G ...), in the order of the groups' names: that of the images changes nothing."""
    _, group_of_N = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group_of_N.max()) + 1
    sums = {name: np.zeros((number, *values.shape[1:])) for name, values in rows.items()}
    for name, values in rows.items():
        np.add.at(sums[name], group_of_N, values)
    return sums


def jackknife(groups: Features, judge: Judge) -> tuple[Values, Values]:
    """M numbers over all groups (features G ...) and their standard errors, from leaving out one group at a time:
    error^2 = (G - 1) / G sum_g (f_-g - mean f_-g)^2. It is NaN for a single group, and where a number hangs on
    one.
    """
    total = {name: values.sum(0, keepdims=True) for name, values in groups.items()}
    (value_M,) = judge(total)
    number = len(next(iter(groups.values())))
    if number < 2:
        return value_M, np.full_like(value_M, math.nan)
    left_out_GM = judge({name: total[name] - values for name, values in groups.items()})
    return value_M, np.sqrt((number - 1) / number * ((left_out_GM - left_out_GM.mean(0)) ** 2).sum(0))


def studentised(groups: Features, judge: Judge, *, resamples: int = RESAMPLES, seed: int = 0) -> Spread:
    """The numbers of `judge` over all groups (features G ...), with their errors and intervals.

    What is drawn depends on the number of groups and the seed alone. A draw in which a number or its error is
    undefined (a rare class was not drawn) does not count for that number. A number that is the same whichever groups
    are drawn has an interval without width. There is none for a single group, nor where a number hangs on one group.
    """
    value_M, error_M = jackknife(groups, judge)
    table = _Table.of(groups)
    number = len(table.rows_GP)
    if number < 2:
        return Spread(value_M, error_M, (NO_INTERVAL,) * len(value_M))
    moving_PM = table.moving(judge)
    parts = [_errors(table, judge, moving_PM, weights_RG) for weights_RG in draws(number, resamples, seed)]
    values_RM, errors_RM = (np.concatenate(part) for part in zip(*parts, strict=True))
    intervals = tuple(
        _interval(float(value), float(error), values_R, errors_R)
        for value, error, values_R, errors_R in zip(value_M, error_M, values_RM.T, errors_RM.T, strict=True)
    )
    return Spread(value_M, error_M, intervals)


def draws(number: int, resamples: int, seed: int) -> Iterator[Float64[np.ndarray, "R G"]]:
    """How often each of `number` groups is drawn, in batches of at most 2^20 numbers."""
    random = np.random.default_rng(seed)
    rows = max(1, 2**20 // number)
    for start in range(0, resamples, rows):
        some = min(rows, resamples - start)
        drawn = random.integers(0, number, (some, number)) + number * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * number).reshape(some, number).astype(np.float64)


def _interval(value: float, error: float, values_R: Values, errors_R: Values) -> Interval:
    if math.isnan(value) or math.isnan(error):
        return NO_INTERVAL
    if error <= 1e-9 * abs(value):
        return value, value
    kept = errors_R > 1e-4 * error  # else all that was drawn is alike: rounding, no error
    distance_R = (values_R[kept] - value) / errors_R[kept]
    if 2 * len(distance_R) < len(values_R):
        return NO_INTERVAL
    low, high = np.quantile(distance_R, [0.025, 0.975])
    return float(value - high * error), float(value - low * error)


@dataclass(frozen=True, eq=False)
class _Table:
    """Features as one matrix, and back."""

    rows_GP: Values
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    steps_P: Values
    """By which a column is moved to see what follows; 0 where nothing was ever counted."""

    @classmethod
    def of(cls, groups: Features) -> _Table:
        rows_GP = np.concatenate([values.reshape(len(values), -1) for values in groups.values()], axis=1)
        shapes = tuple((name, values.shape[1:]) for name, values in groups.items())
        return cls(rows_GP, shapes, 1e-6 * np.abs(rows_GP).sum(0))

    def features(self, sums_RP: Values) -> Features:
        ends = np.cumsum([math.prod(shape) for _, shape in self.shapes])[:-1]
        parts = np.split(sums_RP, ends, axis=1)
        return {
            name: part.reshape(-1, *shape) for (name, shape), part in zip(self.shapes, parts, strict=True)
        }

    def moving(self, judge: Judge) -> np.ndarray:
        """P M: which columns move which number, seen at the sum of all groups."""
        counted = self.steps_P > 0
        total_P = self.rows_GP.sum(0)
        moved_PM = judge(self.features(total_P + np.diag(self.steps_P)))
        moving: np.ndarray = counted[:, None] & (moved_PM != judge(self.features(total_P[None])))
        return moving


def _errors(table: _Table, judge: Judge, moving_PM: np.ndarray, weights_RG: Values) -> tuple[Values, Values]:
    """R M numbers and R M standard errors of draws in which group g counts weights_RG times."""
    sums_RP = weights_RG @ table.rows_GP
    values_RM = judge(table.features(sums_RP))
    used = [np.flatnonzero(moves) for moves in moving_PM.T]
    slopes = [np.empty((len(sums_RP), len(columns))) for columns in used]
    for column in np.flatnonzero(moving_PM.any(1)):
        moved_RP = sums_RP.copy()
        moved_RP[:, column] += table.steps_P[column]
        # what was not drawn moves nothing
        slope_RM = np.nan_to_num((judge(table.features(moved_RP)) - values_RM) / table.steps_P[column])
        for m in np.flatnonzero(moving_PM[column]):
            slopes[m][:, np.searchsorted(used[m], column)] = slope_RM[:, m]
    number, squares_RM = weights_RG.shape[1], _squares(table, used, slopes, weights_RG)
    centres_RM = np.stack(
        [(slopes_RP * sums_RP[:, columns]).sum(1) for slopes_RP, columns in zip(slopes, used, strict=True)],
        -1,
    )
    variances_RM = (squares_RM - centres_RM**2 / number) * number / (number - 1)
    return values_RM, np.sqrt(np.maximum(variances_RM, 0))


def _squares(
    table: _Table, used: Sequence[np.ndarray], slopes: Sequence[Values], weights_RG: Values
) -> Values:
    """R M: sum over the groups of w (slopes . x)^2.

    Of few columns by their products, which are summed for all numbers at once; of many directly.
    """
    few = [len(columns) <= FEW_COLUMNS for columns in used]
    of_number = [
        list(itertools.combinations_with_replacement(columns.tolist(), 2)) if one else []
        for columns, one in zip(used, few, strict=True)
    ]
    pairs = sorted({pair for found in of_number for pair in found})
    place = {pair: at for at, pair in enumerate(pairs)}
    left, right = np.array(pairs, dtype=int).reshape(-1, 2).T
    products_RQ = weights_RG @ (table.rows_GP[:, left] * table.rows_GP[:, right])
    squares = []
    for m, (columns, slopes_RP) in enumerate(zip(used, slopes, strict=True)):
        if not few[m]:
            influence_RG = slopes_RP @ table.rows_GP[:, columns].T
            squares.append(np.einsum("rg,rg,rg->r", weights_RG, influence_RG, influence_RG))
            continue
        sum_R = np.zeros(len(weights_RG))
        for (i, j), pair in zip(
            itertools.combinations_with_replacement(range(len(columns)), 2), of_number[m], strict=True
        ):
            sum_R += (1 + (i != j)) * slopes_RP[:, i] * slopes_RP[:, j] * products_RQ[:, place[pair]]
        squares.append(sum_R)
    return np.stack(squares, -1)
