"""How often 95 % intervals of a score cover the truth: methods side by side on populations whose truth is known.

    python benchmarks/coverage.py --simulations 2000 --out docs/intervals.md

Each population is drawn again and again at each size, each method gives its interval, and the table says how many of
100 hold the truth, and how wide they are in the median. A number is a ratio of two sums (of Dice values and pictures,
or of hits and union), or the difference of two such ratios over the same pictures.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats
from scipy.special import expit, logit, ndtr, ndtri

from maskwright.metrics.enough import ENOUGH_DIFFERENCES, ENOUGH_HOLDERS, ENOUGH_PICTURES
from maskwright.metrics.intervals import RESAMPLES, draws
from maskwright.metrics.measures import Values

SIZES = (10, 15, 20, 25, 30, 50, 100, 150, 200, 500, 1000)
BATCH = 100
"""Simulations worked on at once."""
START, END = "<!-- coverage -->", "<!-- /coverage -->"
"""Between them lies the table of the page."""

Sums = Float64[np.ndarray, "S G"]
"""Of the G groups of S data sets."""
Drawn = tuple[tuple[tuple[Sums, Sums], ...], Int64[np.ndarray, " S"]]
"""Numerators and denominators of one ratio, or of two whose difference is asked; and how many groups each data set's
number rests on."""
Method = Callable[["Sample"], Float64[np.ndarray, "2 S"]]


@dataclass(frozen=True)
class Population:
    """What can be drawn, and the number that it has."""

    draw: Callable[[np.random.Generator, int, int], Drawn]
    truth: float
    method: str = "studentised"
    """What scores and comparisons use for it."""
    enough: int = ENOUGH_PICTURES
    """Groups that hold it, from which on scores have an interval."""
    limits: tuple[float, float] = (0.0, 1.0)
    held: float = 1.0
    """The share of the groups that hold it."""


def pets(random: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Dice of one picture: as on the 285 test pets, most near 0.93 and one in eight anywhere below."""
    tail = random.random(shape) < TAIL
    return np.where(tail, random.beta(*LOW, shape), random.beta(*HIGH, shape))


TAIL, LOW, HIGH = 0.13, (3.2, 1.8), (22.0, 1.9)
PETS_MEAN = TAIL * LOW[0] / sum(LOW) + (1 - TAIL) * HIGH[0] / sum(HIGH)


def dice_of_pictures(random: np.random.Generator, simulations: int, number: int) -> Drawn:
    return _every(pets(random, (simulations, number)))


def dice_in_streets(random: np.random.Generator, simulations: int, number: int) -> Drawn:
    """Several classes in a picture: means of them are less skewed."""
    return _every(random.beta(14, 8, (simulations, number)))


def sequences(random: np.random.Generator, simulations: int, number: int) -> Drawn:
    """Videos of 5 to 20 pictures, half of whose variance is the video's own."""
    length = random.integers(5, 21, (simulations, number))
    own = pets(random, (simulations, number))
    others = pets(random, (simulations, number, 20)) * (np.arange(20) < length[..., None])
    mixed = random.random((simulations, number, 20)) < 0.5  # a picture is the video's own kind, or any
    values = np.where(mixed, own[..., None] * (np.arange(20) < length[..., None]), others)
    return ((values.sum(-1), length.astype(np.float64)),), np.full(simulations, number)


def difference(gained: float, lost: float) -> Population:
    """Dice of one model less that of another on the same picture, as of two seeds on the test pets: mostly small; in a
    share of pictures one finds what the other missed."""

    def draw(random: np.random.Generator, simulations: int, number: int) -> Drawn:
        shape = (simulations, number)
        luck, rescue = random.random(shape), random.beta(1.5, 6, shape)
        side = np.where(luck < gained, 1, np.where(luck < gained + lost, -1, 0))
        return _every(0.012 * random.standard_t(3, shape) + rescue * side)

    truth = (gained - lost) * 1.5 / 7.5
    return Population(draw, truth, "Student's t", ENOUGH_DIFFERENCES, (-1.0, 1.0))


def _every(values_SG: Values) -> Drawn:
    """Means over groups."""
    return ((values_SG, np.ones_like(values_SG)),), np.full(len(values_SG), values_SG.shape[1])


MISSED, FOUND, AROUND, ALARM = 0.1, (4.0, 1.5), (1.0, 6.0), 0.3
"""Share of the objects that are missed; Beta of the share found of others; Beta of the false pixels around one, as a
share of its size; mean size of false alarms elsewhere, in sizes."""


def rare(share: float) -> Population:
    """IoU from summed pixels of a class in `share` of the pictures: log-normal sizes, one in ten missed altogether,
    false alarms around it and, a tenth as often as it, elsewhere."""

    def draw(random: np.random.Generator, simulations: int, number: int) -> Drawn:
        there, size = _objects(random, (simulations, number), share)
        return (_model(random, there, size, share),), there.sum(1)

    hits = share * (1 - MISSED) * FOUND[0] / sum(FOUND)
    union = share * (1 + AROUND[0] / sum(AROUND)) + (1 - share) * 0.1 * share * ALARM
    return Population(draw, hits / union, enough=ENOUGH_HOLDERS, held=share)


def rare_difference(share: float) -> Population:
    """The difference of two such models on the same pictures, which are equally good."""

    def draw(random: np.random.Generator, simulations: int, number: int) -> Drawn:
        there, size = _objects(random, (simulations, number), share)
        one, other = (_model(random, there, size, share) for _ in range(2))
        return (one, other), there.sum(1)

    return Population(draw, 0.0, "Student's t", ENOUGH_HOLDERS, (-1.0, 1.0), share)


def _objects(random: np.random.Generator, shape: tuple[int, int], share: float) -> tuple[np.ndarray, Sums]:
    return random.random(shape) < share, random.lognormal(0, 1, shape)


def _model(random: np.random.Generator, there: np.ndarray, size: Sums, share: float) -> tuple[Sums, Sums]:
    """Hits and union of each picture."""
    shape = there.shape
    found = np.where(random.random(shape) < MISSED, 0, random.beta(*FOUND, shape))
    elsewhere = np.where(random.random(shape) < 0.1 * share, ALARM * random.lognormal(0, 1, shape), 0)
    false = np.where(there, size * random.beta(*AROUND, shape), elsewhere)
    return found * size * there, size * there + false


POPULATIONS: Mapping[str, Population] = {
    "Dice per picture, one foreground class, long lower tail": Population(dice_of_pictures, PETS_MEAN),
    "Dice per picture, mean over many classes": Population(dice_in_streets, 14 / 22),
    "Dice per picture in videos (groups)": Population(sequences, PETS_MEAN),
    "IoU of a class in every picture": rare(1.0),
    "IoU of a class in 20 % of the pictures": rare(0.2),
    "IoU of a class in 5 % of the pictures": rare(0.05),
    "IoU of a class in 1 % of the pictures": rare(0.01),
    "Difference in Dice, gains and losses": difference(0.03, 0.02),
    "Difference in Dice, mostly gains": difference(0.04, 0.01),
    "Difference in Dice, rare gains and no losses": difference(0.05, 0.0),
    "Difference in IoU of a class in 20 % of the pictures": rare_difference(0.2),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """S data sets, their ratios, and what each method needs of the same draws."""

    values_S: Values
    errors_S: Values
    """By the jackknife."""
    drawn_SR: Values
    draw_errors_SR: Values
    """By the infinitesimal jackknife."""
    left_out_SG: Values

    @classmethod
    def of(cls, ratios: Sequence[tuple[Sums, Sums]], resamples: int = RESAMPLES, seed: int = 0) -> Sample:
        number = ratios[0][0].shape[1]
        drawn, errors = _drawn(ratios, np.concatenate(list(draws(number, resamples, seed))))
        sums = [(top.sum(1, keepdims=True), below.sum(1, keepdims=True)) for top, below in ratios]
        value = _signed(_over(*both) for both in sums)[:, 0]
        left_out = _signed(
            _over(top - own, below - under) for (top, below), (own, under) in zip(sums, ratios, strict=True)
        )
        away = left_out - left_out.mean(1, keepdims=True)
        error = np.sqrt((number - 1) / number * (away**2).sum(1))
        return cls(value, error, drawn, errors, left_out)


def _drawn(ratios: Sequence[tuple[Sums, Sums]], weights_RG: Values) -> tuple[Values, Values]:
    """Numbers (S R) and their errors by the infinitesimal jackknife."""
    number, parts = weights_RG.shape[1], []
    found = []
    for sign, (top, below) in zip((1, -1), ratios, strict=False):
        under = below @ weights_RG.T
        ratio = _over(top @ weights_RG.T, under)
        found.append(ratio)
        # a group moves the number by the sum of (factor x column)
        parts += [(sign * _over(np.ones_like(under), under), top), (-sign * _over(ratio, under), below)]
    squares = np.zeros_like(found[0])
    for (factor, column), (other, column2) in itertools.combinations_with_replacement(parts, 2):
        twice = 1 if factor is other else 2
        squares += twice * factor * other * ((column * column2) @ weights_RG.T)
    return _signed(found), np.sqrt(np.maximum(squares, 0) * number / (number - 1))


def _signed(found: Iterable[Values]) -> Values:
    """The one, or the first less the second."""
    first, *second = found
    return first - second[0] if second else first


def _over(part: Values, whole: Values) -> Values:
    ratio: Values = np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)
    return ratio


def percentile(sample: Sample) -> Values:
    return _quantiles(sample.drawn_SR, np.full((2, len(sample.values_S)), [[0.025], [0.975]]))


def bca(sample: Sample) -> Values:
    """Bias-corrected and accelerated (Efron 1987), the acceleration by the jackknife."""
    below = (sample.drawn_SR < sample.values_S[:, None]).mean(1)
    equal = (sample.drawn_SR == sample.values_S[:, None]).mean(1)
    bias = ndtri(np.clip(below + equal / 2, 1e-6, 1 - 1e-6))
    away = np.nan_to_num(np.nanmean(sample.left_out_SG, 1, keepdims=True) - sample.left_out_SG)
    squares = np.maximum((away**2).sum(1), 1e-300)
    acceleration = (away**3).sum(1) / (6 * squares**1.5)
    shifted = bias + ndtri([[0.025], [0.975]])
    return _quantiles(sample.drawn_SR, ndtr(bias + shifted / (1 - acceleration * shifted)))


def student(sample: Sample) -> Values:
    """Student's t, with the jackknife's error."""
    half = stats.t.ppf(0.975, sample.left_out_SG.shape[1] - 1)
    ends: Values = sample.values_S + np.array([[-half], [half]]) * sample.errors_S
    return ends


def studentised(sample: Sample) -> Values:
    """`maskwright.metrics.intervals.studentised`, many data sets at once."""
    return _studentised(sample.values_S, sample.drawn_SR, sample.errors_S, sample.draw_errors_SR)


def studentised_logit(sample: Sample) -> Values:
    """The same of the number's logit; nonsense for differences."""
    values, drawn = sample.values_S, sample.drawn_SR
    errors, draw_errors = (
        sample.errors_S / (values * (1 - values)),
        sample.draw_errors_SR / (drawn * (1 - drawn)),
    )
    ends: Values = expit(_studentised(logit(values), logit(drawn), errors, draw_errors))
    return ends


def _studentised(values_S: Values, drawn_SR: Values, errors_S: Values, draw_errors_SR: Values) -> Values:
    kept = (draw_errors_SR > 1e-6 * errors_S[:, None]) & np.isfinite(drawn_SR)
    away_SR = np.where(kept, (drawn_SR - values_S[:, None]) / draw_errors_SR, math.nan)
    found = _quantiles(away_SR, np.full((2, len(values_S)), [[0.975], [0.025]]))
    return np.where(kept.mean(1) < 0.5, math.nan, values_S - found * errors_S)


def _quantiles(values_SR: Values, levels_2S: Values) -> Values:
    """Of what is defined in each row, at its own two levels, by linear interpolation."""
    ordered = np.sort(values_SR, axis=1)  # NaN last
    last = np.maximum((~np.isnan(values_SR)).sum(1) - 1, 0)
    at = levels_2S * last
    low = np.clip(np.nan_to_num(np.floor(at)), 0, last).astype(int)
    high = np.minimum(low + 1, last)
    rows = np.arange(len(values_SR))
    found: Values = ordered[rows, low] + (at - low) * (ordered[rows, high] - ordered[rows, low])
    return found


METHODS: Mapping[str, Method] = {
    "percentile": percentile,
    "BCa": bca,
    "Student's t": student,
    "studentised logit": studentised_logit,
    "studentised": studentised,
}
"""Scores use the last, comparisons Student's t."""


@dataclass(frozen=True)
class Cell:
    """Intervals of one method at one size: how many, how many of them cover, and their median width."""

    number: int
    covered: int
    width: float

    @property
    def share(self) -> float:
        return self.covered / self.number if self.number else math.nan

    @property
    def error(self) -> float:
        """Standard error of the share: that of the simulation, not of the method."""
        return math.sqrt(self.share * (1 - self.share) / self.number) if self.number else math.nan

    @property
    def text(self) -> str:
        if not self.number:
            return "–"
        width = "–" if math.isnan(self.width) else "0" if self.width < 0.001 else f"{self.width:.2g}"
        return f"{100 * self.share:.1f} ({width})"


GIVEN = "given"


def simulate(population: Population, number: int, simulations: int, seed: int = 0) -> dict[str, Cell]:
    """Of each method; under GIVEN of the intervals that scores or comparisons would give.

    Data sets in which the number is undefined have no interval and do not count; an interval that cannot be given
    covers nothing.
    """
    random = np.random.default_rng([seed, number])
    low_limit, high_limit = population.limits
    covers: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, GIVEN)}
    widths: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, GIVEN)}
    for _ in range(0, simulations, BATCH):
        ratios, held = population.draw(random, BATCH, number)
        there = np.all([below.sum(1) > 0 for _, below in ratios], axis=0)
        with np.errstate(all="ignore"):
            sample = Sample.of(
                [(top[there], below[there]) for top, below in ratios], seed=int(random.integers(2**31))
            )
            for name, method in METHODS.items():
                low, high = method(sample)
                covers[name].append((low <= population.truth) & (population.truth <= high))
                widths[name].append(np.minimum(high, high_limit) - np.maximum(low, low_limit))
        enough = held[there] >= population.enough
        covers[GIVEN].append(covers[population.method][-1][enough])
        widths[GIVEN].append(widths[population.method][-1][enough])
    cells = {}
    for name in covers:
        covered, wide = np.concatenate(covers[name]), np.concatenate(widths[name])
        wide = wide[~np.isnan(wide)]
        cells[name] = Cell(
            len(covered), int(covered.sum()), float(np.median(wide)) if len(wide) else math.nan
        )
    return cells


def tables(sizes: Sequence[int], simulations: int, say: Callable[[str], None]) -> str:
    """Markdown: a table for each population, a row for each size."""
    parts = []
    for title, population in POPULATIONS.items():
        began, lines = time.perf_counter(), []
        for number in sizes:
            cells = simulate(population, number, simulations)
            given = cells.pop(GIVEN)
            if population.limits[0] < 0:
                cells["studentised logit"] = Cell(0, 0, math.nan)  # there is no logit of a difference
            made = cells[population.method]
            held = [f"{population.held * number:g}"] if population.held < 1 else []
            share = f"{100 * given.number / made.number:.0f}" if made.number else "0"
            shown = [cell.text for cell in cells.values()]
            lines.append(_row([str(number), *held, *shown, f"{100 * made.error:.1f}", share, given.text]))
        columns = [
            "groups",
            *(["hold it"] if population.held < 1 else []),
            *METHODS,
            "±",
            "given",
            "of these cover",
        ]
        parts.append("\n".join([f"### {title}", "", _row(columns), _row(["--:"] * len(columns)), *lines, ""]))
        say(parts[-1])
        say(f"{time.perf_counter() - began:.0f} s\n")
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, help=f"a page whose part from {START} to {END} is replaced")
    asked = parser.parse_args()
    made = tables(asked.sizes, asked.simulations, lambda text: print(text, flush=True))
    if asked.out is not None:
        head, _, rest = asked.out.read_text(encoding="utf-8").partition(START)
        _, _, tail = rest.partition(END)
        asked.out.write_text(f"{head}{START}\n\n{made}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
