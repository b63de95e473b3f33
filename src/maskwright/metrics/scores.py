"""Dice, IoU and accuracy from counts, with intervals from resampled groups.

Dice_k = 2 tp / (2 tp + fp + fn) and IoU_k = tp / (tp + fp + fn), undefined where class k is in neither truth
nor prediction. From that, with the contract's rules for what is undefined:

- dice_image, iou_image: per image the mean over the foreground classes present in it, then the mean over
  images.
- dice_global, iou_global: from counts summed over all images, the mean over the foreground classes.
- miou: from summed counts, the mean over all classes; miou_fg: without class 0 in the mean; miou_fg_masked:
  pixels whose truth is class 0 are dropped as well, so that false alarms on background are free. (Class 0
  stays out of that mean. Where a Keras-style score lets it in, one foreground pixel predicted as 0 adds a
  class of IoU 0.)
- pixel_accuracy: correct pixels / pixels.

Intervals are percentile bootstrap intervals (Efron 1979): groups (patients, videos; or single images) are
drawn with replacement, since images of one group say the same thing more than once.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64
from pydantic import ValidationError

from maskwright.errors import DataError, RunError
from maskwright.files import write_text
from maskwright.metrics.contract import DEFAULT, MetricContract, Policy
from maskwright.metrics.counts import COLUMNS, Confusion, Counts, tally

METRICS = (
    "dice_image",
    "dice_global",
    "iou_image",
    "iou_global",
    "miou",
    "miou_fg",
    "miou_fg_masked",
    "pixel_accuracy",
)
RESAMPLES = 2000
FEW_GROUPS = 10
"""Below this, percentile intervals are much too narrow; the reader is told."""

Values: TypeAlias = Float64[np.ndarray, "..."]
Interval: TypeAlias = tuple[float, float]
ImageMetric: TypeAlias = Literal["dice_image", "iou_image"]

NO_INTERVAL = (math.nan, math.nan)
STAND_IN: Mapping[Policy, float] = {"skip": math.nan, "zero": 0.0, "one": 1.0}


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval; NaN where undefined (one group has no interval)."""

    value: float
    ci95: Interval


@dataclass(frozen=True)
class ClassScore:
    """One class over all images; NaN where the class is in neither truth nor prediction and the contract
    skips it."""

    name: str
    dice_global: float
    iou_global: float
    pixels: int
    """Truth pixels."""
    dice_global_ci95: Interval
    iou_global_ci95: Interval


@dataclass(frozen=True)
class ImageScore:
    """One class of one image, in pixels. Every image has a row for every class, so columns can be summed."""

    id: str
    class_id: int
    name: str
    group: str
    tp: int
    fp: int
    fn: int
    fp_background: int

    @property
    def dice(self) -> float:
        """NaN where the class is in neither truth nor prediction, whatever the contract says of it."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else math.nan

    @property
    def iou(self) -> float:
        whole = self.tp + self.fp + self.fn
        return self.tp / whole if whole else math.nan


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model is worth on some images: `scores["dice_image"].value`, `.ci95`."""

    contract: MetricContract
    """Resolved: its foreground is written out."""
    metrics: Mapping[str, Score]
    """All of METRICS."""
    per_class: tuple[ClassScore, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Of each image."""
    counts_NK4: Counts
    advice: tuple[str, ...] = ()
    """What a reader should know before trusting the numbers."""

    def __getitem__(self, metric: str) -> Score:
        return self.metrics[metric]

    @property
    def n_images(self) -> int:
        return len(self.ids)

    @property
    def n_groups(self) -> int:
        return len(set(self.groups))

    @cached_property
    def per_image(self) -> tuple[ImageScore, ...]:
        """A row per image and class, in order."""
        return tuple(
            ImageScore(id, k, entry.name, group, *(int(number) for number in self.counts_NK4[image, k]))
            for image, (id, group) in enumerate(zip(self.ids, self.groups, strict=True))
            for k, entry in enumerate(self.per_class)
        )

    def by_image(self, metric: ImageMetric = "dice_image") -> dict[str, float]:
        """The metric of each image by id; NaN for an image that the contract leaves out."""
        values = image_values(self.counts_NK4, self.contract)[metric]
        return dict(zip(self.ids, values.tolist(), strict=True))

    def summary(self) -> dict[str, object]:
        """The content of scores.json: plain values, None for NaN."""
        return {
            "contract": self.contract.model_dump(mode="json"),
            "contract_hash": self.contract.hash,
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "metrics": {name: _plain(vars(score)) for name, score in self.metrics.items()},
            "per_class": [_plain(vars(entry)) for entry in self.per_class],
            "advice": list(self.advice),
        }

    def save(self, folder: Path) -> None:
        """`per_image.csv`, then `scores.json`, each atomically. Raises RunError when the disk is full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in self.per_image:
            ratios = ["" if math.isnan(value) else repr(value) for value in (row.dice, row.iou)]
            writer.writerow(
                [
                    row.id,
                    row.class_id,
                    row.tp,
                    row.fp,
                    row.fn,
                    *ratios,
                    row.group,
                    row.name,
                    row.fp_background,
                ]
            )
        write_text(folder / "per_image.csv", text.getvalue())
        write_text(folder / "scores.json", json.dumps(self.summary(), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Scores:
        """What `save` wrote. Raises RunError where it is not there or not whole."""
        try:
            said = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
            with open(folder / "per_image.csv", newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
            per_class = tuple(ClassScore(**_floats(entry)) for entry in said["per_class"])
            counts = np.array([[int(row[column]) for column in COLUMNS] for row in rows], dtype=np.int64)
            return cls(
                contract=MetricContract.model_validate(said["contract"]),
                metrics={name: Score(**_floats(score)) for name, score in said["metrics"].items()},
                per_class=per_class,
                ids=tuple(row["id"] for row in rows[:: len(per_class)]),
                groups=tuple(row["group"] for row in rows[:: len(per_class)]),
                counts_NK4=counts.reshape(said["n_images"], len(per_class), len(COLUMNS)),
                advice=tuple(said["advice"]),
            )
        except OSError as error:
            raise RunError(
                f"{folder} holds no scores: {error.strerror}", "run `maskwright evaluate`"
            ) from error
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise RunError(
                f"the scores in {folder} are damaged", "run `maskwright evaluate` again"
            ) from error


CSV_COLUMNS = ("id", "class", "tp", "fp", "fn", "dice", "iou", "group", "name", "fp_background")
"""Of per_image.csv; class is the id. dice and iou are empty where the class is in neither truth nor
prediction."""


def scores(
    counts_NK4: Counts,
    ids: Sequence[str],
    names: Sequence[str],
    contract: MetricContract = DEFAULT,
    *,
    groups: Sequence[str] | None = None,
    advice: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Numbers and intervals from the counts of N images (`tally`), with their ids and the K class names.

    Intervals resample `groups` (the group of each image; None: every image is its own), `resamples` times. A
    resample in which a number is undefined (a rare class was not drawn) does not count for that number's
    interval. Raises DataError without images, ConfigError where the contract does not suit the classes.
    """
    if not len(ids):
        raise DataError("there are no images to score", "choose another split")
    contract = contract.resolved(len(names))
    groups = tuple(ids if groups is None else groups)
    sums = _features(counts_NK4, contract)
    value, class_dice, class_iou = _measures(sums.sum(0), contract)
    samples, samples_dice, samples_iou = _measures(_resample(sums, groups, resamples, seed), contract)
    judge = _interval if len(set(groups)) > 1 else lambda _: NO_INTERVAL
    truth_pixels = counts_NK4[..., 0].sum(0) + counts_NK4[..., 2].sum(0)
    return Scores(
        contract=contract,
        metrics={name: Score(float(value[name]), judge(samples[name])) for name in METRICS},
        per_class=tuple(
            ClassScore(
                name=name,
                dice_global=float(class_dice[k]),
                iou_global=float(class_iou[k]),
                pixels=int(truth_pixels[k]),
                dice_global_ci95=judge(samples_dice[:, k]),
                iou_global_ci95=judge(samples_iou[:, k]),
            )
            for k, name in enumerate(names)
        ),
        ids=tuple(ids),
        groups=groups,
        counts_NK4=counts_NK4,
        advice=(*advice, *_advice(counts_NK4, names, groups, contract)),
    )


def summary(confusions_NKK: Confusion, contract: MetricContract = DEFAULT) -> dict[str, float]:
    """The value of every metric, without intervals: cheap enough for each epoch. NaN where undefined."""
    contract = contract.resolved(confusions_NKK.shape[-1])
    values, _, _ = _measures(_features(tally(confusions_NKK, contract), contract).sum(0), contract)
    return {name: float(values[name]) for name in METRICS}


def bootstrap(
    judged: Scores, metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Float64[np.ndarray, " R"]:
    """A metric of METRICS in each of `resamples` draws of the groups with replacement; NaN where it is undefined.

    What is drawn depends on the groups' names and the seed alone, so for scores of the same pictures sample r is
    of the same draw: differences and means of several runs can be taken sample by sample.
    """
    sums = _features(judged.counts_NK4, judged.contract)
    samples, _, _ = _measures(_resample(sums, judged.groups, resamples, seed), judged.contract)
    return samples[metric]


def merge(parts: Sequence[Scores], *, resamples: int = RESAMPLES, seed: int = 0) -> Scores:
    """The scores of all images of `parts` together, as if they had been judged at once (folds, for example).

    Raises RunError where contracts or classes differ: such numbers cannot be joined.
    """
    contract, names = parts[0].contract, [entry.name for entry in parts[0].per_class]
    for part in parts:
        if part.contract != contract:
            raise RunError(
                f"contracts {contract.hash} and {part.contract.hash} differ",
                "evaluate again under one contract",
            )
        if [entry.name for entry in part.per_class] != names:
            raise RunError("the classes of the scores differ", "join only scores of one data set")
    return scores(
        np.concatenate([part.counts_NK4 for part in parts]),
        [id for part in parts for id in part.ids],
        names,
        contract,
        groups=[group for part in parts for group in part.groups],
        resamples=resamples,
        seed=seed,
    )


def dice(tp: Values, fp: Values, fn: Values) -> Values:
    """2 tp / (2 tp + fp + fn), elementwise; NaN where all are 0. Equals 2 IoU / (1 + IoU)."""
    return _divide(2 * tp, 2 * tp + fp + fn)


def iou(tp: Values, fp: Values, fn: Values) -> Values:
    """tp / (tp + fp + fn), elementwise; NaN where all are 0."""
    return _divide(tp, tp + fp + fn)


def image_values(
    counts_NK4: Counts, contract: MetricContract
) -> dict[ImageMetric, Float64[np.ndarray, " N"]]:
    """dice_image and iou_image of every image under a resolved contract; NaN where an image is left out."""
    tp, fp, fn, _ = np.moveaxis(counts_NK4[:, list(contract.foreground or ())], -1, 0)  # each N F
    empty = (tp + fp + fn == 0).all(-1)

    def per_image(ratios_NF: Values) -> Values:
        return np.where(empty, STAND_IN[contract.empty], _mean(_settle(ratios_NF, contract.absent)))

    return {"dice_image": per_image(dice(tp, fp, fn)), "iou_image": per_image(iou(tp, fp, fn))}


def _features(counts_NK4: Counts, contract: MetricContract) -> Float64[np.ndarray, "N F"]:
    """All that is ever added up per image: 4 K counts; sum and number of defined values of dice_image,
    iou_image.

    float64 holds whole numbers exactly up to 2^53, more pixels than any data set has.
    """
    images = image_values(counts_NK4, contract)
    columns = [part for value in images.values() for part in (np.nan_to_num(value), ~np.isnan(value))]
    return np.hstack([counts_NK4.reshape(len(counts_NK4), -1), *(column[:, None] for column in columns)])


def _measures(sums_RF: Values, contract: MetricContract) -> tuple[dict[str, Values], Values, Values]:
    """Every metric (R), and dice and IoU of every class (R K), from summed features (R F)."""
    counts_RK4 = sums_RF[..., :-4].reshape(*sums_RF.shape[:-1], -1, 4)
    dice_sum, dice_number, iou_sum, iou_number = np.moveaxis(sums_RF[..., -4:], -1, 0)
    tp, fp, fn, fp_background = np.moveaxis(counts_RK4, -1, 0)  # each R K
    class_dice = _settle(dice(tp, fp, fn), contract.absent)
    class_iou = _settle(iou(tp, fp, fn), contract.absent)
    masked_iou = _settle(iou(tp, fp - fp_background, fn), contract.absent)
    foreground = list(contract.foreground or ())
    values = {
        "dice_image": _divide(dice_sum, dice_number),
        "dice_global": _mean(class_dice[..., foreground]),
        "iou_image": _divide(iou_sum, iou_number),
        "iou_global": _mean(class_iou[..., foreground]),
        "miou": _mean(class_iou),
        "miou_fg": _mean(class_iou[..., 1:]),
        "miou_fg_masked": _mean(masked_iou[..., 1:]),
        "pixel_accuracy": _divide(tp.sum(-1), (tp + fn).sum(-1)),
    }
    return values, class_dice, class_iou


def _resample(
    sums_NF: Values, groups: Sequence[str], resamples: int, seed: int
) -> Float64[np.ndarray, "R F"]:
    """Feature sums of `resamples` draws of as many groups as there are, with replacement.

    Groups are taken in the order of their names, so the order of the images changes nothing.
    """
    _, group_of_N = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group_of_N.max()) + 1
    sums_GF = np.zeros((number, sums_NF.shape[1]))
    np.add.at(sums_GF, group_of_N, sums_NF)
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            random.multinomial(number, np.full(number, 1 / number), size=rows) @ sums_GF
            for rows in _batches(resamples, max(1, 2**22 // number))
        ]
    )


def _batches(total: int, size: int) -> Iterator[int]:
    """Parts of at most `size` that add up to `total`: 2^22 weights at a time stay under 64 MB."""
    for start in range(0, total, size):
        yield min(size, total - start)


def _interval(samples_R: Values) -> Interval:
    """The middle 95 % of the defined samples."""
    defined = samples_R[~np.isnan(samples_R)]
    if not len(defined):
        return NO_INTERVAL
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _divide(part: Values, whole: Values) -> Values:
    """part / whole; NaN where whole is 0."""
    nothing = np.full(np.shape(whole), math.nan)
    np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0)
    return nothing


def _settle(values: Values, policy: Policy) -> Values:
    """What is undefined becomes what the contract says of it."""
    return np.where(np.isnan(values), STAND_IN[policy], values)


def _mean(values: Values) -> Values:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    return _divide(np.nansum(values, -1), (~np.isnan(values)).sum(-1))


def _advice(
    counts_NK4: Counts, names: Sequence[str], groups: Sequence[str], contract: MetricContract
) -> Iterator[str]:
    number = len(set(groups))
    if number == 1:
        yield "only 1 group: there is no interval"
    elif number < FEW_GROUPS:
        yield f"only {number} groups: the intervals say little"
    if contract.empty == "skip":
        left_out = int(np.isnan(image_values(counts_NK4, contract)["dice_image"]).sum())
        if left_out:
            where = f"{left_out} of {len(counts_NK4)} pictures have no foreground in truth and prediction"
            yield f"{where}: dice_image and iou_image leave them out"
    absent = [name for name, total in zip(names, counts_NK4[..., :3].sum((0, 2)), strict=True) if not total]
    if absent:
        yield f"in neither truth nor prediction: {', '.join(absent)}"


def _plain(fields: Mapping[str, object]) -> dict[str, object]:
    """NaN becomes None, tuples lists: what JSON can say."""
    return {name: _null(value) for name, value in fields.items()}


def _null(value: object) -> object:
    if isinstance(value, tuple):
        return [_null(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _floats(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The way back from `_plain`."""
    return {name: _number(value) for name, value in fields.items()}


def _number(value: object) -> object:
    if isinstance(value, list):
        return tuple(_number(entry) for entry in value)
    return math.nan if value is None else value
