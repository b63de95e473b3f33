"""Comparisons against SciPy and brute force, by hand, and by what must not change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from maskwright.compare import (
    Comparison,
    compare,
    compare_by,
    corrected,
    holm,
    leaderboard,
    over_pictures,
)
from maskwright.errors import RunError
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.scores import Scores, scores

PIXELS = 1000
NAMES = ("background", "soil", "rock")


def judged(
    shares: Sequence[float] | np.ndarray,
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    contract: MetricContract = DEFAULT,
    truth: int = PIXELS,
) -> Scores:
    """Pictures of soil alone, of which this share is found; nothing is invented: Dice 2 s / (1 + s)."""
    hits = np.round(np.asarray(shares) * truth).astype(np.int64)
    counts = np.zeros((len(hits), 3, 4), dtype=np.int64)
    counts[:, 0, 0], counts[:, 1, 0], counts[:, 1, 2] = truth, hits, truth - hits
    counts[:, 0, 1] = truth - hits
    ids = [f"{number:03d}" for number in range(len(hits))] if ids is None else ids
    return scores(counts, ids, NAMES, contract, groups=groups, resamples=20)


def share_of(dice: np.ndarray) -> np.ndarray:
    share: np.ndarray = dice / (2 - dice)
    return share


def dice_of(found: Scores) -> np.ndarray:
    return np.array(list(found.by_image().values()))


def two(seed: int = 0, number: int = 200, gain: float = 0.02) -> tuple[Scores, Scores]:
    random = np.random.default_rng(seed)
    first = random.beta(8, 2, number) * 0.9
    return judged(first), judged(np.clip(first + gain + 0.03 * random.standard_normal(number), 0, 1))


def test_the_interval_of_a_mean_difference_is_the_paired_t_interval() -> None:
    first, second = two()
    found = compare([first], [second])
    oracle = stats.ttest_rel(dice_of(second), dice_of(first)).confidence_interval(0.95)
    assert found.ci95 == pytest.approx((oracle.low, oracle.high))
    assert found.difference == pytest.approx(second["dice_image"].value - first["dice_image"].value)
    assert found.means == pytest.approx((first["dice_image"].value, second["dice_image"].value))
    assert (found.n_images, found.n_groups, found.n_seeds) == (200, 200, (1, 1))
    assert found.verdict == "better"


@pytest.mark.parametrize("number", [5, 8])
def test_p_of_few_pictures_is_scipys_exact_one(number: int) -> None:
    first, second = two(number, number)
    oracle = stats.permutation_test(
        (dice_of(second), dice_of(first)),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert compare([first], [second]).p == pytest.approx(oracle.pvalue)


def test_p_of_summed_pixels_by_brute_force() -> None:
    """The counts of a picture change sides, then the metric is made anew."""
    random = np.random.default_rng(3)
    counts = random.integers(1, 60, (2, 7, 3, 4))
    counts[1, ..., 2] = counts[0, ..., 2] + counts[0, ..., 0] - counts[1, ..., 0]  # the same truth
    counts = np.maximum(counts, 0)
    counts[0, ..., 2] = counts[1, ..., 2] + counts[1, ..., 0] - counts[0, ..., 0]
    ids = list("abcdefg")
    one, other = (scores(side, ids, NAMES, resamples=5) for side in counts)

    def miou(side: np.ndarray) -> float:
        tp, fp, fn, _ = side.sum(0).T
        return float(np.mean(tp / (tp + fp + fn)))

    observed, larger = abs(miou(counts[1]) - miou(counts[0])), 0
    for swapped in itertools.product([0, 1], repeat=7):
        at = np.array(swapped)
        sides = counts[at, np.arange(7)], counts[1 - at, np.arange(7)]
        larger += abs(miou(sides[0]) - miou(sides[1])) >= observed - 1e-12
    assert compare([one], [other], "miou").p == pytest.approx(larger / 2**7)


def test_p_of_many_pictures_is_near_the_normal_one() -> None:
    first, second = two(4, 150, 0.004)
    oracle = stats.ttest_rel(dice_of(second), dice_of(first)).pvalue
    assert compare([first], [second]).p == pytest.approx(oracle, abs=0.015)


def test_swapping_the_sides_turns_everything_round() -> None:
    first, second = two()
    there, back = (
        compare([first], [second], names=("a", "b")),
        compare([second], [first], names=("b", "a")),
    )
    assert back.difference == pytest.approx(-there.difference)
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
    assert back.p == pytest.approx(there.p, abs=0.01)
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_the_order_of_the_pictures_changes_nothing() -> None:
    first, second = two()
    order = np.random.default_rng(1).permutation(200)
    ids = [second.ids[at] for at in order]
    shares = share_of(dice_of(second))[order]
    shuffled = compare([first], [judged(shares, ids=ids)])
    straight = compare([first], [second])
    assert shuffled.ci95 == pytest.approx(straight.ci95)
    assert shuffled.p == straight.p


def test_groups_are_exchanged_and_left_out_not_pictures() -> None:
    random = np.random.default_rng(5)
    first = np.repeat(random.beta(8, 2, 160) * 0.8, 5)
    second = np.clip(first + np.repeat(0.01 + 0.05 * random.standard_normal(160), 5), 0, 1)
    videos = [f"video{number // 5:03d}" for number in range(800)]
    alone = compare([judged(first)], [judged(second)])
    grouped = compare([judged(first, groups=videos)], [judged(second, groups=videos)])
    assert grouped.difference == pytest.approx(alone.difference)
    assert np.ptp(grouped.ci95) == pytest.approx(math.sqrt(5) * np.ptp(alone.ci95), rel=0.02)
    assert grouped.p > alone.p
    assert (grouped.n_images, grouped.n_groups, grouped.unit) == (800, 160, "groups")


# Seeds.


def seeds(seed: int, offset: float, noise: float, number: int) -> list[Scores]:
    random = np.random.default_rng(0)  # the same pictures for both sides
    pictures = random.beta(8, 2, 300) * 0.8
    offsets = offset + noise * np.random.default_rng(seed).standard_normal(number)
    return [judged(np.clip(pictures + each, 0, 1)) for each in offsets]


def test_seeds_that_differ_by_a_constant_are_students_t() -> None:
    """No picture differs from another in what it gains: all that is left is the noise of training."""
    first, second = (
        [judged(np.full(300, share)) for share in shares] for shares in ((0.5, 0.52, 0.51), (0.6, 0.61, 0.64))
    )
    found = compare(first, second)
    values = [[each["dice_image"].value for each in side] for side in (first, second)]
    oracle = stats.ttest_ind(values[1], values[0])
    assert found.ci95 == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-6)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6)
    assert found.noise == pytest.approx(
        math.sqrt((np.var(values[0], ddof=1) + np.var(values[1], ddof=1)) / 2)
    )


def test_more_seeds_narrow_and_unequal_numbers_do() -> None:
    widths = [
        np.ptp(compare(seeds(1, 0, 0.02, one), seeds(2, 0.03, 0.02, other)).ci95)
        for one, other in ((2, 2), (6, 1), (12, 12))
    ]
    assert widths[0] > widths[2]
    assert widths[1] > widths[2]


def test_one_seed_says_nothing_of_other_trainings_and_several_do() -> None:
    alone = compare(seeds(1, 0, 0.001, 1), seeds(2, 0.1, 0.001, 1))
    assert alone.verdict == "better"
    assert math.isnan(alone.noise)
    assert "whether another training would say so" in alone.sentence
    several = compare(seeds(1, 0, 0.001, 3), seeds(2, 0.1, 0.001, 3), names=("a", "b"))
    assert "other seeds, too" in several.sentence
    assert several.sentence.startswith("b is better than a by 0.0")


def test_the_noise_of_a_side_of_several_recipes_is_that_within_a_recipe() -> None:
    near, far = seeds(1, 0, 0.001, 3), seeds(2, 0.1, 0.001, 3)
    both = [*near, *far]
    cells = ["near"] * 3 + ["far"] * 3
    pooled, within = compare(both, both), compare(both, both, cells=(cells, cells))
    assert within.noise < 0.1 * pooled.noise
    assert np.ptp(within.ci95) < 0.1 * np.ptp(pooled.ci95)


@pytest.mark.slow
@pytest.mark.ci
def test_intervals_over_seeds_and_pictures_cover_the_difference_of_the_recipes() -> None:
    """Two equal recipes, three seeds each, a gain of its own for every picture: 95 % of the intervals hold 0."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        pictures = random.beta(8, 2, 150) * 0.6 + 0.2
        gains = 0.04 * random.standard_normal(150)  # what the second recipe does better or worse there
        sides = [
            [judged(pictures + which * gains + 0.01 * random.standard_normal()) for _ in range(3)]
            for which in (0, 1)
        ]
        low, high = compare(sides[0], sides[1], "pixel_accuracy").ci95
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.995


# Verdicts.


def test_the_same_scores_are_tied() -> None:
    first, _ = two()
    found = compare([first], [first], margin=0)
    assert (found.verdict, found.ci95, found.p) == ("tied", (0.0, 0.0), 1.0)
    assert found.needed is None


def test_a_difference_within_the_margin_is_tied() -> None:
    first, second = two(gain=0.02)
    assert compare([first], [second], margin=0.005).verdict == "better"
    tied = compare([first], [second], margin=0.1, names=("a", "b"))
    assert tied.verdict == "tied"
    assert tied.sentence.startswith("a and b are tied within 0.1 in dice_image: difference +0.0")


def test_too_few_pictures_have_no_interval_and_words_for_it() -> None:
    first, second = two(number=40, gain=0.0005)
    found = compare([first], [second], names=("a", "b"))
    assert np.isnan(found.ci95).all()
    assert found.verdict == "not enough data"
    assert found.sentence.startswith("not enough data to tell b from a in dice_image: 40 pictures, p = ")
    assert found.needed is not None
    assert found.needed.groups is not None
    assert found.needed.groups >= 150
    first, second = two(number=40, gain=0.08)
    large = compare([first], [second])
    assert large.verdict == "better"  # the exchanges are right for any number of pictures
    assert "40 pictures: too few for an interval" in large.sentence


def test_what_would_decide_does_decide() -> None:
    """Four times the pictures halve the width: as many copies of the pictures as are asked for bring a verdict."""
    random = np.random.default_rng(9)
    first = random.beta(8, 2, 160) * 0.8
    second = np.clip(first + 0.004 + 0.05 * random.standard_normal(160), 0, 1)
    found = compare([judged(first)], [judged(second)])
    assert found.verdict == "not enough data"
    assert found.needed is not None
    assert found.needed.groups is not None
    assert found.needed.seeds is None
    times = math.ceil(found.needed.groups / 160)
    ids = [f"{copy}-{number}" for copy in range(times) for number in range(160)]
    more = compare(
        [judged(np.tile(first, times), ids=ids)], [judged(np.tile(second, times), ids=ids)], margin=0.005
    )
    assert more.verdict != "not enough data"
    fewer = ids[: max(150, found.needed.groups // 3)]
    kept = len(fewer)
    less = compare(
        [judged(np.tile(first, times)[:kept], ids=fewer)], [judged(np.tile(second, times)[:kept], ids=fewer)]
    )
    assert less.verdict == "not enough data"


def test_seeds_are_asked_for_where_pictures_would_not_do() -> None:
    first = [judged(np.full(300, share)) for share in (0.50, 0.53)]
    second = [judged(np.full(300, share)) for share in (0.52, 0.55)]
    found = compare(first, second)
    assert found.verdict == "not enough data"
    assert found.needed is not None
    assert found.needed.groups is None
    assert found.needed.seeds is not None
    assert found.needed.seeds > 2
    assert str(found.needed).endswith("seeds of each")


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    adjusted = holm([0.02, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)


def test_a_correction_can_take_a_verdict_back() -> None:
    first, second = two(gain=0.008)
    found = compare([first], [second], margin=0)
    assert found.verdict == "better"
    assert 0.001 < found.p < 0.05
    assert {each.verdict for each in corrected([found] * 50)} == {"not enough data"}


def test_lower_is_better_for_some_metrics() -> None:
    first, second = two()
    found = compare([first], [second])
    as_error = Comparison(**{**vars(found), "metric": "ece"})
    assert (found.verdict, as_error.verdict) == ("better", "worse")


# Parts.


def test_by_class_each_class_has_its_own_difference() -> None:
    first, second = two()
    found = {each.part: each for each in compare_by([first], [second], "class")}
    assert list(found) == list(NAMES)
    soil = found["soil"]
    assert soil.difference == pytest.approx(second.per_class[1].dice_global - first.per_class[1].dice_global)
    assert soil.verdict == "better"
    assert found["rock"].verdict == "not enough data"
    assert found["rock"].n_groups == 0
    assert soil.corrected_p == pytest.approx(min(1.0, 2 * soil.p))  # rock says nothing and does not count


def test_thirds_of_the_pictures_add_up() -> None:
    random = np.random.default_rng(2)
    truth = random.integers(100, 900, 120)
    counts = np.zeros((120, 3, 4), dtype=np.int64)
    counts[:, 1, 0], counts[:, 0, 0] = truth, 1000 - truth
    worse = counts.copy()
    small = truth <= np.quantile(truth, 1 / 3)
    worse[small, 1, 0] //= 2
    worse[small, 1, 2] = truth[small] - worse[small, 1, 0]
    ids = [f"{number:03d}" for number in range(120)]
    sides = [[scores(each, ids, NAMES, resamples=5)] for each in (worse, counts)]
    parts = compare_by(sides[0], sides[1], "size")
    assert [each.part.split()[0] for each in parts] == ["low", "middle", "high"]
    assert sum(each.n_images for each in parts) == 120
    assert parts[0].difference == pytest.approx(1 / 3, abs=0.01)
    assert parts[0].verdict == "better"
    assert parts[1].difference == parts[2].difference == 0


# Refusals.


def test_what_cannot_be_compared_is_refused_in_one_line() -> None:
    first, second = two()
    strict = judged(share_of(dice_of(second)), contract=MetricContract(empty="one"))
    with pytest.raises(
        RunError, match=rf"{first.contract.hash} and {strict.contract.hash}.*empty \(skip and one\)"
    ):
        compare([first], [strict], names=("a", "b"))
    others = judged([0.5], ids=["elsewhere"])
    with pytest.raises(RunError, match="a and b share no pictures"):
        compare([first], [others], names=("a", "b"))
    with pytest.raises(
        RunError, match="200 of 200 pictures were scored against other masks in a than in b, such as 000"
    ):
        compare([first], [judged(np.full(200, 0.5), truth=500)], names=("a", "b"))
    with pytest.raises(RunError, match="group the pictures differently"):
        compare([first], [judged(np.full(200, 0.5), groups=["one"] * 200)])
    renamed = scores(first.counts_NK4, first.ids, ("background", "rock", "soil"), resamples=5)
    with pytest.raises(RunError, match="knows the classes background, soil, rock; b background, rock, soil"):
        compare([first], [renamed], names=("a", "b"))
    with pytest.raises(RunError, match="a has no nsd; its scores hold dice_image"):
        compare([first], [second], "nsd", names=("a", "b"))


def test_shared_pictures_alone_are_compared_and_that_is_said() -> None:
    first, second = two()
    kept = judged(share_of(dice_of(second))[:160], ids=second.ids[:160])
    found = compare([first], [kept])
    assert found.n_images == 160
    assert found.notes == ("compared on the 160 pictures that all have, of up to 200",)
    assert found.means[0] == pytest.approx(dice_of(first)[:160].mean())


# Leaderboards.


def test_letters_join_what_cannot_be_told_apart() -> None:
    random = np.random.default_rng(4)
    pictures = random.beta(8, 2, 200) * 0.8
    sides = {
        name: [judged(np.clip(pictures + gain + 0.05 * random.standard_normal(200), 0, 1))]
        for name, gain in (("low", 0.0), ("middle", 0.008), ("high", 0.016), ("far", -0.2))
    }
    board = leaderboard(sides, margin=0)
    assert [place.name for place in board.places] == ["high", "middle", "low", "far"]
    letters = {place.name: place.letters for place in board.places}
    for pair in board.pairs:
        share = bool(set(letters[pair.names[0]]) & set(letters[pair.names[1]]))
        assert share == (pair.verdict in ("tied", "not enough data")), pair.sentence
    assert letters["far"] not in letters["high"] + letters["middle"] + letters["low"]
    assert board.places[0].to_best is None
    assert board.places[3].to_best is not None
    assert board.places[3].to_best.verdict == "worse"
    assert board.sentence.endswith("far")
    assert "worse" in board.sentence


def test_sides_with_the_same_scores_are_tied_for_first() -> None:
    first, second = two(gain=0.1)
    board = leaderboard({"a": [second], "b": [second], "c": [first]})
    assert board.sentence == "a and b are tied for first within 0.005 in dice_image; worse: c"
    assert [place.letters for place in board.places] == ["a", "a", "b"]


def test_over_pictures_is_the_interval_of_the_mean_of_the_runs() -> None:
    first, second = two()
    alone = over_pictures([first], "dice_image")
    full = scores(first.counts_NK4, first.ids, NAMES)
    assert alone == pytest.approx(full["dice_image"].ci95)
    low, high = over_pictures([first, second], "dice_image")
    assert low < (first["dice_image"].value + second["dice_image"].value) / 2 < high
    assert np.isnan(over_pictures([two(number=20)[0]], "dice_image")).all()
