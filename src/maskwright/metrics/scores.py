"""Scores: numbers with intervals from what was counted per image; kept as JSON and CSV, read again, joined."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydantic import ValidationError

from maskwright.errors import DataError, RunError
from maskwright.files import write_text
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import COLUMNS, Confusion, Counts, tally
from maskwright.metrics.intervals import (
    FEW_GROUPS,
    NO_INTERVAL,
    RESAMPLES,
    Interval,
    by_group,
    percentile,
    resample,
)
from maskwright.metrics.measures import (
    ImageMetric,
    Tallies,
    features,
    image_values,
    measure,
    total,
)


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
    """METRICS, and what else was counted."""
    per_class: tuple[ClassScore, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Of each image."""
    tallies: Tallies
    advice: tuple[str, ...] = ()
    """What a reader should know before trusting the numbers."""

    def __getitem__(self, metric: str) -> Score:
        return self.metrics[metric]

    @property
    def counts_NK4(self) -> Counts:
        return self.tallies.counts_NK4

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
                tallies=Tallies(counts.reshape(said["n_images"], len(per_class), len(COLUMNS))),
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
    tallies: Tallies | Counts,
    ids: Sequence[str],
    names: Sequence[str],
    contract: MetricContract = DEFAULT,
    *,
    groups: Sequence[str] | None = None,
    advice: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Numbers and intervals from what was counted of N images (counts alone will do), with their ids and the K class
    names.

    Intervals resample `groups` (the group of each image; None: every image is its own), `resamples` times. A
    resample in which a number is undefined (a rare class was not drawn) does not count for that number's
    interval. Raises DataError without images, ConfigError where the contract does not suit the classes.
    """
    if not len(ids):
        raise DataError("there are no images to score", "choose another split")
    tallies = tallies if isinstance(tallies, Tallies) else Tallies(tallies)
    contract = contract.resolved(len(names))
    groups = tuple(ids if groups is None else groups)
    rows = features(tallies, contract)
    found = measure(total(rows), contract)
    samples = measure(resample(by_group(rows, groups), resamples, seed), contract)
    judge = percentile if len(set(groups)) > 1 else lambda _: NO_INTERVAL
    truth_pixels = tallies.counts_NK4[..., [0, 2]].sum((0, 2))
    return Scores(
        contract=contract,
        metrics={
            name: Score(float(values[0]), judge(samples.values[name]))
            for name, values in found.values.items()
        },
        per_class=tuple(
            ClassScore(
                name=name,
                dice_global=float(found.dice_RK[0, k]),
                iou_global=float(found.iou_RK[0, k]),
                pixels=int(truth_pixels[k]),
                dice_global_ci95=judge(samples.dice_RK[:, k]),
                iou_global_ci95=judge(samples.iou_RK[:, k]),
            )
            for k, name in enumerate(names)
        ),
        ids=tuple(ids),
        groups=groups,
        tallies=tallies,
        advice=(*advice, *_advice(tallies.counts_NK4, names, groups, contract)),
    )


def summary(confusions_NKK: Confusion, contract: MetricContract = DEFAULT) -> dict[str, float]:
    """The value of every metric, without intervals: cheap enough for each epoch. NaN where undefined."""
    contract = contract.resolved(confusions_NKK.shape[-1])
    rows = features(Tallies(tally(confusions_NKK, contract)), contract)
    return {name: float(values[0]) for name, values in measure(total(rows), contract).values.items()}


def bootstrap(
    judged: Scores, metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Float64[np.ndarray, " R"]:
    """A metric of METRICS in each of `resamples` draws of the groups with replacement; NaN where it is undefined.

    What is drawn depends on the number of groups and the seed alone, so for scores of the same pictures sample r is
    of the same draw: differences and means of several runs can be taken sample by sample.
    """
    rows = by_group(features(judged.tallies, judged.contract), judged.groups)
    return measure(resample(rows, resamples, seed), judged.contract).values[metric]


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
        Tallies.join([part.tallies for part in parts]),
        [id for part in parts for id in part.ids],
        names,
        contract,
        groups=[group for part in parts for group in part.groups],
        resamples=resamples,
        seed=seed,
    )


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
