"""Scores by hand, against other libraries, by invariants; intervals by what they promise."""

from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, DataError, RunError
from maskwright.metrics.contract import DEFAULT, MetricContract, Policy
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.measures import METRICS, dice, iou
from maskwright.metrics.scores import CSV_COLUMNS, Scores, merge, scores, summary

NAMES = ("background", "soil", "rock")
patient = settings(suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no counterexample."""


def tables(truths: list[list[int]], predictions: list[list[int]], classes: int = 3) -> np.ndarray:
    """Confusions of images given as rows of pixels."""
    pairs = zip(truths, predictions, strict=True)
    return np.stack([confusion(np.array([truth]), np.array([said]), classes) for truth, said in pairs])


def random_tables(seed: int, images: int, classes: int, most: int = 40, absent: float = 0.3) -> np.ndarray:
    """Confusions in which classes are often missing."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, most, (images, classes, classes))
    there = random.random((images, classes)) > absent
    return drawn * there[:, :, None] * there[:, None, :]


def score(tables: np.ndarray, contract: MetricContract = DEFAULT, groups: list[str] | None = None) -> Scores:
    images, classes = tables.shape[:2]
    ids = [f"image{number:03d}" for number in range(images)]
    names = [f"class{k}" for k in range(classes)]
    return scores(tally(tables, contract), ids, names, contract, groups=groups, resamples=200)


HAND = tables(
    truths=[[0, 1, 1, 2], [0, 0, 1, 1], [0, 0, 0, 0]],
    predictions=[[0, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0]],
)
"""Image 0: Dice 2/3 and 1 for classes 1 and 2. Image 1: 2/3, and no class 2. Image 2: no foreground at
all."""


@pytest.mark.parametrize(
    ("absent", "empty", "expected"),
    [
        ("skip", "skip", (5 / 6 + 2 / 3) / 2),
        ("skip", "zero", (5 / 6 + 2 / 3 + 0) / 3),
        ("skip", "one", (5 / 6 + 2 / 3 + 1) / 3),
        ("zero", "skip", (5 / 6 + 1 / 3) / 2),
        ("zero", "zero", (5 / 6 + 1 / 3 + 0) / 3),
        ("zero", "one", (5 / 6 + 1 / 3 + 1) / 3),
        ("one", "skip", (5 / 6 + 5 / 6) / 2),
        ("one", "zero", (5 / 6 + 5 / 6 + 0) / 3),
        ("one", "one", (5 / 6 + 5 / 6 + 1) / 3),
    ],
)
def test_dice_image_by_hand_under_every_policy(absent: Policy, empty: Policy, expected: float) -> None:
    contract = MetricContract(absent=absent, empty=empty)
    assert summary(HAND, contract)["dice_image"] == pytest.approx(expected, abs=1e-15)
    assert score(HAND, contract)["dice_image"].value == pytest.approx(expected, abs=1e-15)


def test_every_other_metric_by_hand() -> None:
    # Summed: class 0 tp 7, fp 2; class 1 tp 2, fn 2; class 2 tp 1.
    values = summary(HAND)
    assert values == pytest.approx(
        {
            "dice_image": 3 / 4,
            "dice_global": (4 / 6 + 1) / 2,
            "iou_image": ((1 / 2 + 1) / 2 + 1 / 2) / 2,
            "iou_global": (1 / 2 + 1) / 2,
            "miou": (7 / 9 + 1 / 2 + 1) / 3,
            "miou_fg": (1 / 2 + 1) / 2,
            "miou_fg_masked": (1 / 2 + 1) / 2,
            "pixel_accuracy": 10 / 12,
        },
        abs=1e-15,
    )
    assert tuple(values) == METRICS


@pytest.mark.parametrize(("absent", "classes_in_mean"), [("skip", 2), ("zero", 3), ("one", 3)])
def test_a_class_that_is_nowhere_is_skipped_never_zero_unless_asked(
    absent: Policy, classes_in_mean: int
) -> None:
    table = tables([[1, 1, 0]], [[1, 1, 1]])  # IoU 0 for class 0, 2/3 for class 1; class 2 is nowhere
    nowhere = {"skip": 0, "zero": 0, "one": 1}[absent]
    values = summary(table, MetricContract(absent=absent))
    assert values["miou"] == pytest.approx((0 + 2 / 3 + nowhere) / classes_in_mean)
    assert values["miou_fg"] == pytest.approx((2 / 3 + nowhere) / (classes_in_mean - 1))


def test_what_nothing_defines_is_nan() -> None:
    values = summary(tables([[0, 0]], [[0, 0]]))
    assert all(math.isnan(values[name]) for name in METRICS if name not in ("miou", "pixel_accuracy"))
    assert values["miou"] == values["pixel_accuracy"] == 1
    assert all(math.isnan(value) for value in summary(tables([[255]], [[0]])).values())


def test_binary_dice_is_of_class_1_alone() -> None:
    values = summary(tables([[1, 1, 0, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]], classes=2))
    assert values["dice_image"] == pytest.approx(2 / 3)
    assert values["iou_image"] == pytest.approx(1 / 2)
    assert values["dice_global"] == pytest.approx(4 / 6)
    assert values["miou_fg"] == values["iou_global"] == pytest.approx(2 / 4)
    assert values["miou"] == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_a_false_alarm_on_an_image_without_foreground_is_no_empty_image() -> None:
    values = summary(tables([[0, 0, 0]], [[0, 0, 1]], classes=2), MetricContract(empty="one"))
    assert values["dice_image"] == 0


def test_another_foreground_changes_dice_but_not_miou() -> None:
    only_rock = summary(HAND, MetricContract(foreground=(2,)))
    assert only_rock["dice_image"] == only_rock["dice_global"] == 1  # images 1 and 2 are empty of rock now
    assert only_rock["miou"] == summary(HAND)["miou"]
    everything = summary(HAND, MetricContract(foreground=(0, 1, 2)))
    assert everything["iou_global"] == everything["miou"]


def test_masked_miou_forgives_false_alarms_on_background_only() -> None:
    # Class 1: 1 hit, 1 false alarm on background, 1 on class 2. Class 2: 1 hit, 1 missed.
    table = tables([[0, 0, 1, 2, 2]], [[0, 1, 1, 1, 2]])
    values = summary(table)
    assert values["miou_fg"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert values["miou_fg_masked"] == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_masked_miou_has_no_fifth_class() -> None:
    """The Keras trap: foreground predicted as 0 must cost its own class, and not bring class 0 into the
    mean."""
    perfect = tables([[0, 1, 1, 1, 1, 2]], [[0, 1, 1, 1, 1, 2]])
    one_pixel_as_background = tables([[0, 1, 1, 1, 1, 2]], [[0, 1, 1, 1, 0, 2]])
    assert summary(perfect)["miou_fg_masked"] == 1
    assert summary(one_pixel_as_background)["miou_fg_masked"] == pytest.approx((3 / 4 + 1) / 2)


@patient
@given(st.integers(0, 2**32 - 1))
def test_masked_miou_is_miou_fg_with_class_0_dropped_from_the_truth(seed: int) -> None:
    drawn = random_tables(seed, 5, 4)
    dropped = summary(drawn, MetricContract(drop_truth=(0,)))
    values = summary(drawn)
    assert dropped["miou_fg"] == pytest.approx(values["miou_fg_masked"], nan_ok=True)
    assert dropped["miou_fg_masked"] == pytest.approx(dropped["miou_fg"], nan_ok=True)


def test_dropping_truth_can_empty_an_image() -> None:
    contract = MetricContract(drop_truth=(1, 2))
    assert math.isnan(score(HAND, contract)["dice_image"].value)
    assert score(HAND, MetricContract(drop_truth=(1, 2), empty="one"))["dice_image"].value == 1


@patient
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 5), st.data())
def test_summary_is_the_plain_loop(seed: int, images: int, classes: int, data: st.DataObject) -> None:
    """The same definitions once more, with lists and no vectors."""
    policy = st.sampled_from(["skip", "zero", "one"])
    absent, empty = data.draw(policy), data.draw(policy)
    foreground = data.draw(st.sets(st.integers(0, classes - 1), min_size=1))
    contract = MetricContract.model_validate(
        {"absent": absent, "empty": empty, "foreground": tuple(foreground)}
    )
    drawn = random_tables(seed, images, classes)

    def ratio(table: np.ndarray, k: int) -> float | None:
        tp, fp, fn = table[k, k], table[:, k].sum() - table[k, k], table[k].sum() - table[k, k]
        return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else None

    def mean(values: list[float | None], policy: str) -> float:
        stand_in = {"skip": None, "zero": 0.0, "one": 1.0}[policy]
        settled = [stand_in if value is None else value for value in values]
        known = [value for value in settled if value is not None]
        return sum(known) / len(known) if known else math.nan

    by_image: list[float | None] = []
    for table in drawn:
        ratios = [ratio(table, k) for k in sorted(foreground)]
        by_image.append(None if all(value is None for value in ratios) else mean(ratios, absent))
    together = [ratio(drawn.sum(0), k) for k in range(classes)]
    values = summary(drawn, contract)
    assert values["dice_image"] == pytest.approx(mean(by_image, empty), nan_ok=True)
    assert values["dice_global"] == pytest.approx(
        mean([together[k] for k in foreground], absent), nan_ok=True
    )
    ious = [None if value is None else value / (2 - value) for value in together]
    assert values["miou"] == pytest.approx(mean(ious, absent), nan_ok=True)
    assert values["miou_fg"] == pytest.approx(mean(ious[1:], absent), nan_ok=True)


@patient
@given(st.lists(st.integers(0, 10**12), min_size=3, max_size=3))
def test_dice_is_2_iou_over_1_plus_iou(numbers: list[int]) -> None:
    tp, fp, fn = (np.array(float(number)) for number in numbers)
    both = float(dice(tp, fp, fn)), float(iou(tp, fp, fn))
    assert both[0] == pytest.approx(2 * both[1] / (1 + both[1]), nan_ok=True)


@patient
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_images_changes_nothing(seed: int) -> None:
    drawn = random_tables(seed, 12, 3)
    ids = [f"image{number:02d}" for number in range(12)]
    groups = [f"video{number % 5}" for number in range(12)]
    order = np.random.default_rng(seed).permutation(12)
    straight = scores(tally(drawn), ids, NAMES, groups=groups, resamples=50)
    shuffled = scores(
        tally(drawn[order]), [ids[i] for i in order], NAMES, groups=[groups[i] for i in order], resamples=50
    )
    for name in METRICS:
        assert shuffled[name].value == pytest.approx(straight[name].value, nan_ok=True)
        assert shuffled[name].ci95 == pytest.approx(straight[name].ci95, nan_ok=True)


def test_scores_and_summary_say_the_same() -> None:
    drawn = random_tables(1, 30, 4)
    assert {name: score(drawn)[name].value for name in METRICS} == pytest.approx(summary(drawn))


def test_classes_have_their_own_numbers() -> None:
    result = score(HAND)
    first, soil, rock = result.per_class
    assert (first.pixels, soil.pixels, rock.pixels) == (7, 4, 1)
    assert soil.dice_global == pytest.approx(2 / 3)
    assert soil.iou_global == pytest.approx(1 / 2)
    assert np.mean([soil.dice_global, rock.dice_global]) == pytest.approx(result["dice_global"].value)
    often = score(random_tables(1, 60, 3, absent=0) + 1).per_class[1]
    assert often.dice_global_ci95[0] < often.dice_global < often.dice_global_ci95[1]


def test_values_of_single_images() -> None:
    result = score(HAND)
    assert result.by_image() == pytest.approx(
        {"image000": 5 / 6, "image001": 2 / 3, "image002": math.nan}, nan_ok=True
    )
    assert result.by_image("iou_image")["image000"] == pytest.approx(3 / 4)


# Other libraries, where their definitions are ours.


def pixels(seed: int, unknown: bool) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, (8, 16, 18))
    predicted = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, 4, truth.shape))
    truth[:4][truth[:4] == 3] = 1  # a class that half of the images lack
    predicted[:4][predicted[:4] == 3] = 1
    if unknown:
        truth[random.random(truth.shape) < 0.1] = 255
    drawn = np.stack([confusion(*pair, 4) for pair in zip(truth, predicted, strict=True)])
    return torch.from_numpy(truth), torch.from_numpy(predicted), drawn


def test_torchmetrics_agrees_on_global_iou_dice_and_accuracy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import (
            multiclass_accuracy,
            multiclass_f1_score,
            multiclass_jaccard_index,
        )
    truth, predicted, drawn = pixels(0, unknown=True)
    result = score(drawn)
    options = {"num_classes": 4, "ignore_index": 255}
    ious = multiclass_jaccard_index(predicted, truth, average="none", **options)
    dices = multiclass_f1_score(predicted, truth, average="none", **options)
    assert [entry.iou_global for entry in result.per_class] == pytest.approx(ious.tolist(), abs=1e-6)
    assert [entry.dice_global for entry in result.per_class] == pytest.approx(dices.tolist(), abs=1e-6)
    assert result["miou"].value == pytest.approx(ious.mean().item(), abs=1e-6)
    accuracy = multiclass_accuracy(predicted, truth, average="micro", **options)
    assert result["pixel_accuracy"].value == pytest.approx(accuracy.item(), abs=1e-6)


@pytest.mark.slow  # importing MONAI takes seconds
def test_monai_agrees_on_dice_per_image_and_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import compute_dice
    truth, predicted, drawn = pixels(1, unknown=False)
    hot = [torch.nn.functional.one_hot(mask, 4).movedim(-1, 1) for mask in (predicted, truth)]
    expected = compute_dice(*hot, include_background=True, ignore_empty=True).numpy()
    ours = np.array([row.dice for row in score(drawn).per_image]).reshape(8, 4)
    assert np.isnan(ours[:4, 3]).all()
    assert ours == pytest.approx(expected, abs=1e-6, nan_ok=True)
    by_image = np.nanmean(expected[:, 1:], axis=1)
    assert score(drawn)["dice_image"].value == pytest.approx(by_image.mean(), abs=1e-6)


def test_smp_agrees_on_binary_scores_per_image_and_of_the_whole_set() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from segmentation_models_pytorch.metrics import f1_score, get_stats, iou_score
    random = np.random.default_rng(2)
    truth = random.integers(0, 2, (9, 1, 13, 17))
    predicted = np.where(random.random(truth.shape) < 0.7, truth, 1 - truth)
    stats = get_stats(torch.from_numpy(predicted), torch.from_numpy(truth), mode="binary")
    pairs = zip(truth[:, 0], predicted[:, 0], strict=True)
    values = summary(np.stack([confusion(*pair, 2) for pair in pairs]))
    for name, oracle in (("iou", iou_score), ("dice", f1_score)):
        assert values[f"{name}_image"] == pytest.approx(oracle(*stats, reduction="micro-imagewise").item())
        assert values[f"{name}_global"] == pytest.approx(oracle(*stats, reduction="micro").item())


# Intervals.


def noisy_images(random: np.random.Generator, shares: np.ndarray, pixels: int = 200) -> np.ndarray:
    """Binary confusions whose images get `shares` of their foreground right, and nothing wrong elsewhere."""
    hits = random.binomial(pixels, shares)
    made = np.zeros((len(shares), 2, 2), dtype=np.int64)
    made[:, 0, 0], made[:, 1, 1], made[:, 1, 0] = pixels, hits, pixels - hits
    return made


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    truth = summary(noisy_images(random, random.beta(8, 2, 200_000)))["dice_image"]
    covered = 0
    for _ in range(200):
        low, high = score(noisy_images(random, random.beta(8, 2, 60)))["dice_image"].ci95
        covered += low <= truth <= high
    assert (
        0.89 <= covered / 200 <= 0.99
    )  # 0.95 -+ 4 standard deviations of 200 trials, and 1 % for small samples


def test_the_interval_of_a_mean_is_its_standard_error() -> None:
    random = np.random.default_rng(1)
    drawn, ids = noisy_images(random, random.beta(8, 2, 400)), [str(number) for number in range(400)]
    result = scores(tally(drawn), ids, ("background", "pet"))
    values = list(result.by_image().values())
    low, high = result["dice_image"].ci95
    assert high - low == pytest.approx(2 * 1.96 * np.std(values) / math.sqrt(400), rel=0.08)


def test_images_of_one_group_say_the_same_thing_more_than_once() -> None:
    random = np.random.default_rng(2)
    shares = np.repeat(random.beta(8, 2, 60), 10)  # 60 videos of 10 pictures
    drawn = noisy_images(random, shares)
    videos = [f"video{number // 10:02d}" for number in range(600)]
    alone, grouped = score(drawn), score(drawn, groups=videos)
    assert grouped["dice_image"].value == alone["dice_image"].value
    assert (alone.n_groups, grouped.n_groups) == (600, 60)
    for metric in ("dice_image", "dice_global"):
        widths = [np.ptp(result[metric].ci95) for result in (alone, grouped)]
        assert widths[1] > 2 * widths[0]


def test_a_copy_of_every_image_in_its_group_narrows_nothing() -> None:
    drawn = random_tables(4, 60, 3)
    videos = [f"video{number:02d}" for number in range(60)]
    once = score(drawn, groups=videos)
    twice = score(np.concatenate([drawn, drawn]), groups=videos * 2)
    for metric in METRICS:
        assert twice[metric].ci95 == pytest.approx(once[metric].ci95)


def test_intervals_are_seeded() -> None:
    counts, ids = tally(random_tables(5, 60, 3)), [str(number) for number in range(60)]
    first, again, other = (scores(counts, ids, NAMES, seed=seed)["miou"].ci95 for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_too_few_groups_have_no_interval_and_are_pointed_out() -> None:
    alone = score(HAND, groups=["a", "a", "a"])
    assert all(math.isnan(end) for name in METRICS for end in alone[name].ci95)
    assert "not enough data: 1 group, at least 50 are needed for an interval of dice_image" in alone.advice
    assert any(line.startswith("not enough data: 2 pictures, at least 50") for line in score(HAND).advice)
    assert not score(random_tables(6, 50, 3, absent=0) + 1).advice


def test_a_rare_class_has_no_interval_and_is_pointed_out() -> None:
    drawn = random_tables(6, 80, 3, absent=0) + 1
    drawn[3:, 2, :] = 0  # in the truth of 3 pictures, and predicted in all
    judged = score(drawn)
    assert not any(math.isnan(end) for end in judged["dice_image"].ci95 + judged.per_class[1].iou_global_ci95)
    assert all(math.isnan(end) for end in judged["miou"].ci95 + judged.per_class[2].iou_global_ci95)
    (line,) = judged.advice
    assert line.startswith("not enough data: class2 is in 3; at least 30 pictures are needed")


def test_advice_says_what_was_left_out() -> None:
    advice = " | ".join(score(HAND[:, :2, :2][[1, 2]]).advice)
    assert "1 of 2 pictures have no foreground in truth and prediction" in advice
    with_nowhere = np.zeros((3, 4, 4), dtype=np.int64)
    with_nowhere[:, :3, :3] = HAND
    assert "in neither truth nor prediction: class3" in score(with_nowhere).advice


def test_nothing_and_nonsense_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        scores(np.zeros((0, 3, 4), dtype=np.int64), [], NAMES)
    with pytest.raises(ConfigError, match="foreground names class 7"):
        score(HAND, MetricContract(foreground=(7,)))


# Files.


def test_scores_json_is_as_promised(tmp_path: Path) -> None:
    result = score(HAND, groups=["a", "a", "a"])
    result.save(tmp_path / "scores" / "test")
    said = json.loads((tmp_path / "scores" / "test" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert said["contract"]["foreground"] == [1, 2]
    assert said["contract_hash"] == DEFAULT.resolved(3).hash
    assert (said["n_images"], said["n_groups"]) == (3, 1)
    assert tuple(said["metrics"]) == METRICS
    assert said["metrics"]["dice_image"] == {"value": pytest.approx(0.75), "ci95": [None, None]}
    assert [entry["name"] for entry in said["per_class"]] == ["class0", "class1", "class2"]
    assert said["per_class"][1]["pixels"] == 4
    assert said["per_class"][1]["dice_global"] == pytest.approx(2 / 3)
    assert {"iou_global", "dice_global_ci95", "iou_global_ci95"} <= set(said["per_class"][1])


def test_every_number_follows_from_per_image_csv(tmp_path: Path) -> None:
    drawn = random_tables(7, 20, 4)
    result = score(drawn)
    result.save(tmp_path)
    with open(tmp_path / "per_image.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 20 * 4
    assert [(row["id"], row["class"]) for row in rows[:5]] == [
        *(("image000", str(k)) for k in range(4)),
        ("image001", "0"),
    ]
    numbers = np.array([[int(row[key]) for key in ("tp", "fp", "fn", "fp_background")] for row in rows])
    tp, fp, fn, on_background = numbers.reshape(20, 4, 4).sum(0).T
    assert result["miou"].value == pytest.approx(np.mean(tp / (tp + fp + fn)))
    masked = tp / (tp + fp - on_background + fn)
    assert result["miou_fg_masked"].value == pytest.approx(masked[1:].mean())
    assert result["pixel_accuracy"].value == pytest.approx(tp.sum() / (tp + fn).sum())
    of_images: dict[str, list[float]] = {}
    for row in rows:
        whole = 2 * int(row["tp"]) + int(row["fp"]) + int(row["fn"])
        assert (row["dice"] == "") == (row["iou"] == "") == (whole == 0)
        if whole:
            assert float(row["dice"]) == 2 * int(row["tp"]) / whole
        if whole and row["class"] != "0":
            of_images.setdefault(row["id"], []).append(float(row["dice"]))
    assert result["dice_image"].value == pytest.approx(
        np.mean([np.mean(part) for part in of_images.values()])
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    contract = MetricContract(empty="one", resolution=(64, 32))
    names = ["a,b", 'with "quotes"', "ünï"]
    ids = ["x/1", "comma,", "line\nbreak"]
    saved = scores(
        tally(HAND, contract), ids, names, contract, groups=["g"] * 3, advice=["left out: 1 picture"]
    )
    saved.save(tmp_path)
    loaded = Scores.load(tmp_path)
    assert loaded.summary() == saved.summary()
    assert loaded.per_image == saved.per_image
    assert (loaded.contract, loaded.ids, loaded.groups) == (saved.contract, saved.ids, saved.groups)
    assert np.array_equal(loaded.counts_NK4, saved.counts_NK4)


def test_what_is_not_there_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no scores"):
        Scores.load(tmp_path)
    score(HAND).save(tmp_path)
    whole = (tmp_path / "per_image.csv").read_text()
    (tmp_path / "per_image.csv").write_text(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged"):
        Scores.load(tmp_path)
    (tmp_path / "per_image.csv").write_text(whole)
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        Scores.load(tmp_path)


def test_merging_is_scoring_at_once() -> None:
    drawn, ids = random_tables(8, 20, 3), [f"image{number:02d}" for number in range(20)]
    groups = [f"video{number // 3}" for number in range(20)]  # the cut goes through one of them
    parts = [
        scores(tally(drawn[part]), ids[part], NAMES, groups=groups[part])
        for part in (slice(0, 7), slice(7, 20))
    ]
    merged, at_once = merge(parts), scores(tally(drawn), ids, NAMES, groups=groups)
    assert merged.summary() == at_once.summary()
    assert merged.ids == at_once.ids
    other = scores(tally(drawn), ids, NAMES, MetricContract(empty="one"))
    with pytest.raises(RunError, match="differ"):
        merge([at_once, other])
    with pytest.raises(RunError, match="classes"):
        merge([at_once, scores(tally(drawn), ids, ("background", "rock", "soil"))])
