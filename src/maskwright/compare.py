"""Is the second better than the first? Differences over the same pictures, with intervals and verdicts in words.

Both sides are judged by the same pictures, so what is drawn again is pictures (or groups of them) for both at once: a
picture that is hard for both says nothing about the difference. Four things are told:

- the difference d of the means over each side's runs, and its 95 % interval d -+ t sqrt(e^2 + s^2 (1 / n1 + 1 / n2)).
  e is the jackknife's error over groups; s the noise of training, the standard deviation over the runs of a side,
  pooled, where a side has several; t Student's with Satterthwaite's degrees of freedom. Of differences this covers
  better than any bootstrap (docs/intervals.md).
- p of the hypothesis that both sides are the same: the share of all ways to exchange the sides' answers group by group
  that give a difference as large (Fisher 1935), of all 2^G ways up to 12 groups, of 10,000 drawn ones beyond. Where a
  side has several runs, the larger of that and Student's t of the interval.
- a verdict: tied where the whole interval lies within the margin; better or worse where p, corrected by Holm (1979) for
  all tests of one table, is under 0.05 and the interval leaves out 0. Of too few groups there is no interval, but the
  exchanges stay right, and they alone decide. Else there is not enough data.
- how many pictures or seeds would decide, if the difference stays what it is.

With one run on each side the verdict is about these two models; with several it is about the two recipes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from maskwright.errors import RunError
from maskwright.metrics.contract import MetricContract
from maskwright.metrics.counts import COLUMNS
from maskwright.metrics.enough import ENOUGH_DIFFERENCES, Number, rests_on
from maskwright.metrics.intervals import (
    NO_INTERVAL,
    Interval,
    Judge,
    by_group,
    jackknife,
    studentised,
)
from maskwright.metrics.measures import (
    LOWER_IS_BETTER,
    Features,
    Tallies,
    Values,
    divide,
    features,
    measure,
)
from maskwright.metrics.objects import SIZES
from maskwright.metrics.pictures import FACTS
from maskwright.metrics.scores import Scores
from maskwright.progress import SILENT, Progress

MARGIN = 0.005
"""Differences within it do not matter: half a point of a score as papers print it, and about what another seed does."""
LEVEL = 0.05
EXACT_GROUPS = 12
"""Up to here all 2^G exchanges are tried."""
EXCHANGES = 10_000
"""Drawn beyond: p is then known to within 0.004 where it is 0.05."""
MOST_SEEDS, MOST_TIMES = 100, 1000
"""Nobody is asked for more seeds, or for more times the pictures there are."""

FOREGROUND = "foreground share"

By: TypeAlias = Literal["class", "size", "property"]
Verdict: TypeAlias = Literal["better", "worse", "tied", "not enough data"]


@dataclass(frozen=True)
class Needed:
    """What would decide, if the difference stays what it is; None where it would change nothing."""

    groups: int | None
    """Pictures, or groups of them, in all."""
    seeds: int | None
    """Runs of each side."""
    unit: str = "pictures"

    def __str__(self) -> str:
        words = [f"about {_rounded(self.groups):,} {self.unit}"] if self.groups else []
        words += [f"{self.seeds} seeds of each"] if self.seeds else []
        return " and ".join(words)


@dataclass(frozen=True)
class Comparison:
    """The second side against the first, in one number."""

    metric: str
    names: tuple[str, str]
    means: tuple[float, float]
    """Of each side over its runs, on the pictures that both have."""
    difference: float
    """Second less first."""
    ci95: Interval
    """NaN where there are too few groups for an interval that keeps its promise, and where nothing is defined."""
    p: float
    n_images: int
    n_groups: int
    n_seeds: tuple[int, int]
    """Runs of each side."""
    noise: float
    """Standard deviation over the runs of a side; NaN where each has one."""
    needed: Needed | None
    """None where the verdict stands."""
    margin: float
    corrected_p: float
    """By Holm for all tests of its table; p itself for a single one."""
    unit: str = "pictures"
    """Of n_groups."""
    part: str = ""
    """Of the pictures or classes; empty: all."""
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of the second side."""
        low, high = self.ci95
        if -self.margin <= low and high <= self.margin:
            return "tied"
        if self.corrected_p < LEVEL and not low <= 0 <= high:
            return "better" if (self.difference > 0) != (self.metric in LOWER_IS_BETTER) else "worse"
        return "not enough data"

    @property
    def sentence(self) -> str:
        """The verdict in words, one line."""
        first, second = self.names
        what = f"in {self.metric}" + (f" for {self.part}" if self.part else "")
        p, low, high = f"p {_p_text(self.corrected_p)}", *self.ci95
        interval = f"{self.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        known = not math.isnan(low)
        if self.verdict == "tied":
            return f"{first} and {second} are tied within {self.margin:g} {what}: difference {interval}"
        if self.verdict == "not enough data":
            found = f"difference {interval}" if known else f"{self.n_groups} {self.unit}"
            would = f"; {self.needed} would decide" if self.needed else ""
            return f"not enough data to tell {second} from {first} {what}: {found}, {p}{would}"
        ends = sorted(abs(end) for end in self.ci95)
        sure = (
            f"{ends[0]:.3f} to {ends[1]:.3f}"
            if known
            else f"{self.n_groups} {self.unit}: too few for an interval"
        )
        size = f"{abs(self.difference):.3f} ({sure}, {p})"
        return f"{second} is {self.verdict} than {first} by {size} {what}: {self._reach()}"

    def summary(self) -> dict[str, object]:
        """Plain values, for JSON."""
        needed = None if self.needed is None else asdict(self.needed)
        return asdict(self) | {"needed": needed, "verdict": self.verdict, "sentence": self.sentence}

    def _reach(self) -> str:
        """To what the verdict may be carried over."""
        if min(self.n_seeds) > 1:
            return f"with other {self.unit} and other seeds, too (noise of training {self.noise:.3f})"
        if max(self.n_seeds) > 1:
            few = self.names[self.n_seeds.index(1)]
            return f"with other {self.unit} and other seeds, too, if those of {few} differ as much"
        return (
            f"these two models, on other {self.unit} like these, too; whether another training would say so, "
            "needs at least 3 seeds of each"
        )


def compare(
    first: Sequence[Scores],
    second: Sequence[Scores],
    metric: str = "dice_image",
    *,
    names: tuple[str, str] = ("first", "second"),
    margin: float = MARGIN,
    seed: int = 0,
    cells: tuple[Sequence[str], Sequence[str]] | None = None,
    enough: int = ENOUGH_DIFFERENCES,
) -> Comparison:
    """`second` against `first`: the scores of each side's runs, one per training seed, on the pictures that all have.

    cells: where a side is made of several recipes, the recipe of each run; the noise of training is then that within a
    recipe. enough: groups from which on a difference of means over pictures has an interval. Raises RunError, naming
    both sides, where contracts, classes, groups or masks differ, or no picture is shared.
    """
    sides = align(first, second, names)
    return _compare(sides, {"": _metric(sides, metric)}, margin, seed, cells, enough)[0]


def compare_by(
    first: Sequence[Scores],
    second: Sequence[Scores],
    by: By,
    metric: str = "dice_image",
    *,
    names: tuple[str, str] = ("first", "second"),
    margin: float = MARGIN,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """A comparison for each part, corrected for their number.

    by class: IoU from summed pixels for a metric that is named after it, else Dice. By size: mean Dice of the small,
    medium and large objects of the truth; where objects were not counted, thirds of the pictures by their share of
    foreground. By property: thirds of the pictures by that share, height, width, brightness, contrast and sharpness, as
    far as they are known and differ. Raises RunError as `compare` does.
    """
    sides = align(first, second, names)
    kind = "iou" if "iou" in metric else "dice"
    classes = [entry.name for entry in first[0].per_class]
    if by == "class":
        asked = {name: Number(f"{kind}_global", "per_class", k) for k, name in enumerate(classes)}
        return corrected(_compare(sides, asked, margin, seed))
    if by == "size" and "objects" in sides.first and "objects" in sides.second:
        asked = {f"{size} objects": Number("dice", "per_size", s) for s, size in enumerate(SIZES)}
        return corrected(_compare(sides, asked, margin, seed))
    known = _properties(sides.runs[0])
    parts = _thirds(known if by == "property" else {FOREGROUND: known[FOREGROUND]}, sides.runs[0].ids)
    number = _metric(sides, metric)
    found = [_compare(_only(sides, ids), {name: number}, margin, seed)[0] for name, ids in parts.items()]
    return corrected(found)


def _properties(run: Scores) -> dict[str, Values]:
    """By name, a value for each picture."""
    truth_NK = run.counts_NK4[..., [COLUMNS.index("tp"), COLUMNS.index("fn")]].sum(-1)
    share_N = divide(truth_NK[:, list(run.contract.foreground or ())].sum(1), truth_NK.sum(1))
    facts_NF = run.tallies.facts_NF
    columns = () if facts_NF is None else facts_NF.T
    return {FOREGROUND: share_N, **dict(zip(FACTS, columns, strict=False))}


def _thirds(properties: Mapping[str, Values], ids: Sequence[str]) -> dict[str, set[str]]:
    """Low, middle and high third of the pictures by each property that differs between them."""
    parts: dict[str, set[str]] = {}
    for name, values in properties.items():
        low, high = np.nanquantile(values, [1 / 3, 2 / 3])
        if not low < high:
            continue
        for third, chosen in (
            (f"low {name} (to {low:.3g})", values <= low),
            (f"middle {name}", (values > low) & (values <= high)),
            (f"high {name} (over {high:.3g})", values > high),
        ):
            parts[third] = {id for id, one in zip(ids, chosen, strict=True) if one}
    return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True)
class Place:
    """A line of a leaderboard."""

    name: str
    mean: float
    """Over the runs, on the pictures that all sides have."""
    ci95: Interval
    """Other pictures drawn."""
    n_seeds: int
    noise: float
    """Standard deviation over the runs; NaN for one."""
    letters: str
    """Sides that share a letter cannot be told apart."""
    to_best: Comparison | None
    """Against the best; None for the best itself."""


@dataclass(frozen=True)
class Leaderboard:
    """Several sides, the best first."""

    metric: str
    places: tuple[Place, ...]
    pairs: tuple[Comparison, ...]
    """Every two sides: the lower place against the higher, corrected for their number."""
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Who is first, in words."""
        best, *others = self.places
        beaten = [place.name for place in others if place.to_best and place.to_best.verdict == "worse"]
        alike = [place.name for place in others if place.name not in beaten]
        behind = f"; worse: {_listed(beaten)}" if beaten else ""
        if not alike:
            return f"{best.name} is the best in {self.metric}{behind}"
        tied = all(
            place.to_best and place.to_best.verdict == "tied" for place in others if place.name in alike
        )
        margin = self.pairs[0].margin
        how = f"tied for first within {margin:g}" if tied else "not told apart for first: not enough data"
        return f"{_listed([best.name, *alike])} are {how} in {self.metric}{behind}"

    def summary(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "metric": self.metric,
            "sentence": self.sentence,
            "places": [
                {name: value for name, value in vars(place).items() if name != "to_best"}
                | {"to_best": None if place.to_best is None else place.to_best.summary()}
                for place in self.places
            ],
            "pairs": [pair.summary() for pair in self.pairs],
            "notes": list(self.notes),
        }


def leaderboard(
    sides: Mapping[str, Sequence[Scores]],
    metric: str = "dice_image",
    *,
    margin: float = MARGIN,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Leaderboard:
    """Every two sides compared on the pictures that all have, with Holm's correction; a letter for each largest group
    of sides that cannot be told apart (Piepho 2004). Raises RunError as `compare` does."""
    names = list(sides)
    all_runs = [run for runs in sides.values() for run in runs]
    shared = set.intersection(*(set(run.ids) for run in all_runs))
    if shared:  # else `align` names two sides that share none
        kept = [id for id in all_runs[0].ids if id in shared]
        sides = {name: [_taken(run, kept) for run in runs] for name, runs in sides.items()}
    means: dict[str, float] = {}
    for name, runs in sides.items():
        both = align(sides[names[0]], runs, (names[0], name))
        means[name] = float(_values(both, [_metric(both, metric)])[1].mean())
    best_first = sorted(names, key=lambda name: means[name], reverse=metric not in LOWER_IS_BETTER)
    pairs = []
    every = list(itertools.combinations(best_first, 2))
    with progress.task("Comparing", len(every)) as done:
        for pair in every:
            pairs.append(
                compare(sides[pair[0]], sides[pair[1]], metric, names=pair, margin=margin, seed=seed)
            )
            done(1)
    judged = corrected(pairs)
    apart = {each.names for each in judged if each.verdict in ("better", "worse")}
    letters = _letters(best_first, apart)
    to_best = {each.names[1]: each for each in judged if each.names[0] == best_first[0]}
    places = []
    for name in best_first:
        values = _values(align(sides[name], sides[name], (name, name)), [Number(metric)])[0][:, 0]
        places.append(
            Place(
                name,
                means[name],
                over_pictures(sides[name], metric),
                len(values),
                float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                letters[name],
                to_best.get(name),
            )
        )
    most = max(run.n_images for run in all_runs)
    notes = () if most == len(shared) else (_on_shared(len(shared), most),)
    return Leaderboard(metric, tuple(places), judged, notes)


def _letters(names: Sequence[str], apart: set[tuple[str, str]]) -> dict[str, str]:
    """Start with all in one group; split it wherever two of it are told apart; drop what lies within another."""
    groups = [set(names)]
    for one, other in sorted(apart):
        split: list[set[str]] = []
        for group in groups:
            split += [group - {one}, group - {other}] if {one, other} <= group else [group]
        groups = [
            group
            for at, group in enumerate(split)
            if not any(group < wider or (group == wider and at > place) for place, wider in enumerate(split))
        ]
    groups.sort(key=lambda group: sorted(names.index(name) for name in group))
    return {name: "".join(_letter(at) for at, group in enumerate(groups) if name in group) for name in names}


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"({number + 1})"


def corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same with p corrected for their number; verdicts follow."""
    adjusted = holm([each.p for each in comparisons])
    return tuple(replace(each, corrected_p=p) for each, p in zip(comparisons, adjusted, strict=True))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: with p sorted, p_(i) becomes max over j <= i of min(1, (m - j + 1) p_(j)). Tests
    that say nothing (NaN) do not count."""
    order = [at for at in np.argsort(ps) if not math.isnan(ps[at])]
    adjusted, largest = [math.nan] * len(ps), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[at]))
        adjusted[at] = largest
    return adjusted


def over_pictures(runs: Sequence[Scores], metric: str) -> Interval:
    """95 % interval of the mean over the runs, other groups of pictures drawn; NaN where there are too few groups."""
    shared = set.intersection(*(set(run.ids) for run in runs))
    if not shared:
        raise RunError("the runs share no pictures", "evaluate them on the same split")
    ids, contract, number = [id for id in runs[0].ids if id in shared], runs[0].contract, Number(metric)
    side = _stacked([_taken(run, ids) for run in runs])
    (interval,) = studentised(side, lambda sums: _mean(sums, [number], contract)).intervals
    return number.settle(interval, _one(side), contract)


# Sides.


@dataclass(frozen=True, eq=False)
class Sides:
    """Features of both sides' runs over the same groups, G runs ...: their order is that of the group names."""

    first: Features
    second: Features
    runs: tuple[Scores, ...]
    """Of both sides, on the pictures that all have, in the same order."""
    names: tuple[str, str]
    notes: tuple[str, ...]

    @property
    def n_seeds(self) -> tuple[int, int]:
        one, other = (next(iter(side.values())).shape[1] for side in (self.first, self.second))
        return one, other


def align(first: Sequence[Scores], second: Sequence[Scores], names: tuple[str, str]) -> Sides:
    """Both sides on the pictures that all runs have. Raises RunError as `compare` does."""
    labels = [names[0]] * len(first) + [names[1]] * len(second)
    runs = [*first, *second]
    for label, run in zip(labels, runs, strict=True):
        _same_rules(names[0], runs[0], label, run)
    shared = set.intersection(*(set(run.ids) for run in runs))
    if not shared:
        raise RunError(f"{names[0]} and {names[1]} share no pictures", "evaluate both on the same split")
    ids = [id for id in runs[0].ids if id in shared]
    runs = [_taken(run, ids) for run in runs]
    for label, run in zip(labels, runs, strict=True):
        _same_truth(names[0], runs[0], label, run)
    most = max(run.n_images for run in (*first, *second))
    notes = () if most == len(ids) else (_on_shared(len(ids), most),)
    cut = len(first)
    return Sides(_stacked(runs[:cut]), _stacked(runs[cut:]), tuple(runs), names, notes)


def _on_shared(shared: int, most: int) -> str:
    return f"compared on the {shared} pictures that all have, of up to {most}"


def _same_rules(first: str, one: Scores, second: str, other: Scores) -> None:
    if one.contract != other.contract:
        said, says = one.contract.model_dump(), other.contract.model_dump()
        key = next(key for key in said if said[key] != says[key])
        raise RunError(
            f"{first} and {second} were scored under contracts {one.contract.hash} and {other.contract.hash}, which "
            f"differ in {key} ({said[key]} and {says[key]})",
            "evaluate both under one contract (--contract)",
        )
    classes, others = ([entry.name for entry in run.per_class] for run in (one, other))
    if classes != others:
        raise RunError(
            f"{first} knows the classes {', '.join(classes)}; {second} {', '.join(others)}",
            "compare runs of one data set",
        )


def _same_truth(first: str, one: Scores, second: str, other: Scores) -> None:
    tp, fn = COLUMNS.index("tp"), COLUMNS.index("fn")
    truths = [run.counts_NK4[..., tp] + run.counts_NK4[..., fn] for run in (one, other)]
    unlike = np.flatnonzero((truths[0] != truths[1]).any(1))
    if len(unlike):
        raise RunError(
            f"{len(unlike)} of {one.n_images} pictures were scored against other masks in {first} than in {second}, "
            f"such as {one.ids[unlike[0]]}",
            "evaluate both on the same data",
        )
    if one.groups != other.groups:
        raise RunError(
            f"{first} and {second} group the pictures differently", "evaluate both on the same data"
        )


def _taken(run: Scores, ids: Sequence[str]) -> Scores:
    at = {id: number for number, id in enumerate(run.ids)}
    rows = [at[id] for id in ids]
    counted: dict[str, Any] = {column.name: getattr(run.tallies, column.name) for column in fields(Tallies)}
    kept: dict[str, Any] = {
        name: None if column is None else column[rows] for name, column in counted.items()
    }
    return replace(
        run, ids=tuple(ids), groups=tuple(run.groups[row] for row in rows), tallies=Tallies(**kept)
    )


def _only(sides: Sides, ids: set[str]) -> Sides:
    """The same on some of the pictures."""
    kept = [id for id in sides.runs[0].ids if id in ids]
    if not kept:
        raise RunError(
            f"{sides.names[0]} and {sides.names[1]} share no picture of a part", "choose other parts"
        )
    runs, cut = tuple(_taken(run, kept) for run in sides.runs), sides.n_seeds[0]
    return replace(sides, first=_stacked(runs[:cut]), second=_stacked(runs[cut:]), runs=runs)


def _stacked(runs: Sequence[Scores]) -> Features:
    """G runs ...: what is counted of each group by each run."""
    each = [by_group(features(run.tallies, run.contract), run.groups) for run in runs]
    return {
        name: np.stack([rows[name] for rows in each], axis=1)
        for name in each[0]
        if all(name in rows for rows in each)
    }


def _metric(sides: Sides, metric: str) -> Number:
    """Raises RunError where a side has it not."""
    for name, side in zip(sides.names, (sides.first, sides.second), strict=True):
        known = measure({key: rows.sum((0, 1))[None] for key, rows in side.items()}, sides.runs[0].contract)
        if metric not in known.values:
            raise RunError(f"{name} has no {metric}", f"its scores hold {', '.join(known.values)}")
    return Number(metric)


def _one(side: Features) -> Features:
    """G ... of its first run: the truth is the same for all."""
    return {name: rows[:, 0] for name, rows in side.items()}


# Statistics.


def _mean(sums: Features, numbers: Sequence[Number], contract: MetricContract) -> Values:
    """R M, mean over the runs, of features R runs ..."""
    rows, runs = next(iter(sums.values())).shape[:2]
    flat = {name: values.reshape(rows * runs, *values.shape[2:]) for name, values in sums.items()}
    found = measure(flat, contract)
    return np.stack([number.read(found).reshape(rows, runs).mean(1) for number in numbers], axis=-1)


def _difference(numbers: Sequence[Number], contract: MetricContract) -> Judge:
    """Of features "1 NAME" and "2 NAME", each R runs ...: second less first, R M."""

    def judge(sums: Features) -> Values:
        one, other = ({name[2:]: sums[name] for name in sums if name.startswith(side)} for side in "12")
        difference_RM: Values = _mean(other, numbers, contract) - _mean(one, numbers, contract)
        return difference_RM

    return judge


def _both(sides: Sides) -> Features:
    return {f"1 {name}": rows for name, rows in sides.first.items()} | {
        f"2 {name}": rows for name, rows in sides.second.items()
    }


def _compare(
    sides: Sides,
    asked: Mapping[str, Number],
    margin: float,
    seed: int,
    cells: tuple[Sequence[str], Sequence[str]] | None = None,
    of_means: int = ENOUGH_DIFFERENCES,
) -> tuple[Comparison, ...]:
    """A comparison for each number, by the part that it is called after."""
    numbers, contract = list(asked.values()), sides.runs[0].contract
    judge, both = _difference(numbers, contract), _both(sides)
    difference_M, error_M = jackknife(both, judge)
    exchanged_M = permutation_p(
        {name: rows.mean(1, keepdims=True) for name, rows in both.items()}, judge, seed
    )
    values = _values(sides, numbers)
    made = []
    for m, (part, number) in enumerate(asked.items()):
        own = values[0][:, m], values[1][:, m]
        groups, enough = rests_on(number, _one(sides.first), contract, of_means=of_means)
        noise, freedom = _noise(own, cells)
        spread = _Spread(
            float(error_M[m]), groups, noise * math.sqrt(1 / len(own[0]) + 1 / len(own[1])), freedom
        )
        difference = float(difference_M[m])
        p = max(spread.p(difference), exchanged_M[m]) if freedom else exchanged_M[m]
        found = Comparison(
            metric=number.metric,
            names=sides.names,
            means=(float(own[0].mean()), float(own[1].mean())),
            difference=difference,
            ci95=(difference - spread.half, difference + spread.half) if groups >= enough else NO_INTERVAL,
            p=p,
            n_images=sides.runs[0].n_images,
            n_groups=groups,
            n_seeds=sides.n_seeds,
            noise=noise,
            needed=None,
            margin=margin,
            corrected_p=p,
            unit="pictures" if len(both["1 counts"]) == sides.runs[0].n_images else "groups",
            part=part,
            notes=sides.notes,
        )
        made.append(replace(found, needed=_needed(found, enough, spread)))
    return tuple(made)


@dataclass(frozen=True)
class _Spread:
    """Of a difference: over groups and over seeds."""

    error: float
    """By the jackknife over groups."""
    groups: int
    of_seeds: float
    """Standard error over the runs; NaN without freedom."""
    freedom: int
    """Of the noise of training; 0 where each side has one run."""

    @property
    def both(self) -> float:
        return math.hypot(self.error, self.of_seeds) if self.freedom else self.error

    @property
    def satterthwaite(self) -> float:
        """Degrees of freedom of `both`."""
        parts = self.error**4 / max(1, self.groups - 1)
        parts += self.of_seeds**4 / self.freedom if self.freedom else 0.0
        return self.both**4 / parts if parts > 0 else math.inf

    @property
    def half(self) -> float:
        """Of the width of the interval."""
        return float(stats.t.ppf(0.975, self.satterthwaite)) * self.both

    def p(self, difference: float) -> float:
        """Two-sided, of no difference."""
        if not self.both > 0:
            return math.nan if math.isnan(self.both) else float(difference == 0)
        return float(2 * stats.t.sf(abs(difference) / self.both, self.satterthwaite))


def _values(sides: Sides, numbers: Sequence[Number]) -> tuple[Values, Values]:
    """Runs M of each side."""
    contract = sides.runs[0].contract
    one, other = (
        np.stack(
            [
                number.read(measure({name: rows.sum(0) for name, rows in side.items()}, contract))
                for number in numbers
            ],
            axis=-1,
        )
        for side in (sides.first, sides.second)
    )
    return one, other


def permutation_p(both: Features, judge: Judge, seed: int = 0) -> list[float]:
    """Of each number of `judge`: how often both sides differ as much when their answers are exchanged by groups.

    both: features G 1 ... of the first side under "1 NAME" and of the second under "2 NAME". Two-sided; among drawn
    exchanges the one that was found counts as well. An exchange that leaves a number undefined counts as larger.
    """
    names = sorted({name[2:] for name in both})
    ones, others = ([both[f"{side} {name}"] for name in names] for side in (1, 2))
    number = len(ones[0])
    observed = np.abs(judge({name: rows.sum(0, keepdims=True) for name, rows in both.items()})[0])
    random, larger, tried = np.random.default_rng(seed), np.zeros(len(observed)), 0
    exact = number <= EXACT_GROUPS
    total = 2**number if exact else EXCHANGES
    for start in range(0, total, rows := max(1, 2**20 // number)):
        some = min(rows, total - start)
        if exact:
            kept = (np.arange(start, start + some)[:, None] >> np.arange(number)) & 1
        else:
            kept = random.integers(0, 2, (some, number))
        kept_RG = kept.astype(np.float64)
        sums: dict[str, Values] = {}
        for name, one, other in zip(names, ones, others, strict=True):
            moved = np.tensordot(kept_RG, one - other, axes=1)
            sums[f"1 {name}"], sums[f"2 {name}"] = other.sum(0) + moved, one.sum(0) - moved
        found = np.abs(judge(sums))
        larger += (~(found < observed * (1 - 1e-9) - 1e-12)).sum(0)
        tried += some
    share = larger / tried if exact else (larger + 1) / (tried + 1)
    return [math.nan if math.isnan(value) else float(p) for value, p in zip(observed, share, strict=True)]


def _noise(
    values: tuple[Values, Values], cells: tuple[Sequence[str], Sequence[str]] | None
) -> tuple[float, int]:
    """The standard deviation over the runs of a side (of a cell), pooled, and its degrees of freedom."""
    squares, freedom = 0.0, 0
    for at, side in enumerate(values):
        names = np.asarray(cells[at] if cells else [""] * len(side))
        for name in set(names.tolist()):
            own = side[names == name]
            squares += float(((own - own.mean()) ** 2).sum())
            freedom += len(own) - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


def _needed(found: Comparison, enough: int, spread: _Spread) -> Needed | None:
    """How many groups or seeds would bring the half-width under the difference, or under what is left of the margin.

    The variance over groups shrinks as 1 / groups, that over seeds as 2 / seeds. Seeds are asked for where those that
    are there would not do with any number of pictures.
    """
    if found.verdict != "not enough data" or math.isnan(found.difference):
        return None
    target = max(abs(found.difference), found.margin - abs(found.difference)) / 1.02
    least = Needed(enough, None, found.unit) if found.n_groups < enough else None
    if not target > 0 or math.isnan(spread.error):
        return least
    runs = min(found.n_seeds)
    per_seed = found.noise * math.sqrt(2)  # of sqrt(seeds)

    def half(groups: float, seeds: int) -> float:
        scaled = replace(
            spread,
            error=spread.error * math.sqrt(found.n_groups / groups),
            groups=math.ceil(min(groups, 1e9)),
            of_seeds=spread.of_seeds if seeds == runs else per_seed / math.sqrt(seeds),
            freedom=spread.freedom if seeds == runs else 2 * seeds - 2,
        )
        return scaled.half

    now, many = max(found.n_groups, enough), MOST_TIMES * found.n_groups
    if half(many, runs) < target:  # more pictures would do
        return Needed(_least(now, many, lambda groups: half(groups, runs) < target), None, found.unit)
    if not spread.freedom or half(many, MOST_SEEDS) >= target:
        return least
    if half(now, MOST_SEEDS) < target:  # more seeds would do
        seeds = _least(runs, MOST_SEEDS, lambda number: half(now, number) < target)
        return Needed(now if now > found.n_groups else None, seeds, found.unit)
    seeds = _least(runs, MOST_SEEDS, lambda number: half(many, number) < target / math.sqrt(2))
    return Needed(_least(now, many, lambda groups: half(groups, seeds) < target), seeds, found.unit)


def _least(low: int, high: int, does: Callable[[int], bool]) -> int:
    """The smallest number from low to high that does, if more always do; high does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle + 1, high)
    return high


def _rounded(number: int) -> int:
    """To two digits: an estimate of an estimate is not known better."""
    places = max(0, len(str(number)) - 2)
    return int(-(-number // 10**places) * 10**places)


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _p_text(p: float) -> str:
    return "unknown" if math.isnan(p) else "< 0.001" if p < 0.001 else f"= {p:.3f}"
