"""Scores: numbers with intervals from what was counted per image; kept as JSON and CSV, read again, joined."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from maskwright.errors import DataError, RunError
from maskwright.files import write_text
from maskwright.metrics.anatomy import ErrorKind, anatomy
from maskwright.metrics.calibration import Calibration, calibration
from maskwright.metrics.columns import (
    Columns,
    bin_columns,
    class_columns,
    from_csv,
    picture_columns,
    tallies_of,
    to_csv,
)
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import Confusion, Counts, tally
from maskwright.metrics.enough import Number, numbers
from maskwright.metrics.enough import advice as not_enough
from maskwright.metrics.intervals import (
    NO_INTERVAL,
    RESAMPLES,
    Interval,
    by_group,
    studentised,
)
from maskwright.metrics.measures import (
    Features,
    ImageMetric,
    Tallies,
    features,
    image_values,
    measure,
    total,
)
from maskwright.metrics.objects import SIZES, ObjectScore


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval; NaN where undefined, and where too few groups are there for an interval that
    keeps its promise."""

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
    boundary_iou: float = math.nan
    """These four: the mean over the images that the class is in; NaN where contours were not judged."""
    nsd: float = math.nan
    hd95: float = math.nan
    """Pixels, as assd."""
    assd: float = math.nan
    boundary_iou_ci95: Interval = NO_INTERVAL
    nsd_ci95: Interval = NO_INTERVAL
    hd95_ci95: Interval = NO_INTERVAL
    assd_ci95: Interval = NO_INTERVAL


@dataclass(frozen=True)
class SizeScore:
    """All objects of one size, of all foreground classes together; NaN where there are none."""

    size: str
    objects: int
    invented: int
    """Predicted objects of this size that share no pixel with the truth of their class."""
    found: float
    """The share of the objects of which at least half is predicted as their class."""
    coverage: float
    """The mean share of an object that is predicted as its class."""
    dice: float
    """The mean Dice of an object with the predicted regions that share a pixel with it."""
    found_ci95: Interval
    coverage_ci95: Interval
    dice_ci95: Interval


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
    per_size: tuple[SizeScore, ...] = ()
    """By object size, small first; empty where objects were not counted."""
    objects: tuple[ObjectScore, ...] = ()
    """Every object of the truth, in the order of the images."""
    confusion_KK: Confusion | None = None
    """Pixels of all images by truth and prediction; None where it was not kept."""
    temperature: float = 1.0
    """Of the model that was judged; NaN where parts with several were joined."""

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
        """The metric of each image by id; NaN for an image that the contract leaves out.

        Raises KeyError for a metric that was not counted."""
        values = image_values(self.tallies, self.contract)[metric]
        return dict(zip(self.ids, values.tolist(), strict=True))

    @cached_property
    def anatomy(self) -> tuple[ErrorKind, ...]:
        """The kinds of errors, the most rewarding to mend first; empty where they were not counted."""
        return anatomy(self.tallies, self.contract)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Reliability curve, ECE, and how well the expected Dice foretells the true one; None where not counted."""
        return calibration(self.tallies, self.contract, self.temperature)

    def summary(self) -> dict[str, object]:
        """The content of scores.json: plain values, None for NaN."""
        return {
            "contract": self.contract.model_dump(mode="json"),
            "contract_hash": self.contract.hash,
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "metrics": {name: _plain(vars(score)) for name, score in self.metrics.items()},
            "per_class": [_plain(vars(entry)) for entry in self.per_class],
            "per_size": [_plain(vars(entry)) for entry in self.per_size],
            "advice": list(self.advice),
        }

    def save(self, folder: Path) -> None:
        """`per_image.csv` and, as far as it was counted, `pictures.csv`, `confidence.csv`, `calibration.json`,
        `objects.csv` and `anatomy.json`; then `scores.json`. Each atomically. Raises RunError when the disk is full."""
        per_class: Columns = {
            "id": [row.id for row in self.per_image],
            "class": [row.class_id for row in self.per_image],
            **{name: [getattr(row, name) for row in self.per_image] for name in CSV_COLUMNS[2:]},
            **class_columns(self.tallies),
        }
        write_text(folder / "per_image.csv", to_csv(per_class))
        if per_picture := picture_columns(self.tallies):
            write_text(folder / "pictures.csv", to_csv({"id": self.ids, **per_picture}))
        if per_bin := bin_columns(self.tallies, self.ids):
            write_text(folder / "confidence.csv", to_csv(per_bin))
        if self.calibration is not None:
            said = _plain(asdict(self.calibration))
            write_text(folder / "calibration.json", json.dumps(said, indent=2, allow_nan=False) + "\n")
        if self.tallies.objects_NS5 is not None:
            columns = {name: [getattr(entry, name) for entry in self.objects] for name in OBJECT_COLUMNS}
            write_text(folder / "objects.csv", to_csv(columns))
        if self.anatomy:
            rows = [_plain(vars(row)) for row in self.anatomy]
            write_text(folder / "anatomy.json", json.dumps(rows, indent=2, allow_nan=False) + "\n")
        if self.confusion_KK is not None:
            write_text(folder / CONFUSION, json.dumps(self.confusion_KK.tolist()) + "\n")
        write_text(folder / "scores.json", json.dumps(self.summary(), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Scores:
        """What `save` wrote, by this version or an earlier one. Raises RunError where it is not there or not whole."""
        try:
            said = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
            rows = from_csv(folder / "per_image.csv")
            pictures, bins, objects = (
                folder / name for name in ("pictures.csv", "confidence.csv", "objects.csv")
            )
            per_picture, per_bin = (from_csv(file) if file.exists() else [] for file in (pictures, bins))
            per_class = tuple(ClassScore(**_floats(entry)) for entry in said["per_class"])
            return cls(
                contract=MetricContract.model_validate(said["contract"]),
                metrics={name: Score(**_floats(score)) for name, score in said["metrics"].items()},
                per_class=per_class,
                ids=tuple(row["id"] for row in rows[:: len(per_class)]),
                groups=tuple(row["group"] for row in rows[:: len(per_class)]),
                tallies=tallies_of(rows, per_picture, per_bin, said["n_images"], len(per_class)),
                advice=tuple(said["advice"]),
                confusion_KK=_read_confusion(folder / CONFUSION, len(per_class)),
                per_size=tuple(SizeScore(**_floats(entry)) for entry in said.get("per_size", ())),
                objects=tuple(
                    ObjectScore(row["id"], *(int(row[name]) for name in OBJECT_COLUMNS[1:]))
                    for row in (from_csv(objects) if objects.exists() else ())
                ),
                temperature=_temperature(folder / "calibration.json"),
            )
        except OSError as error:
            raise RunError(
                f"{folder} holds no scores: {error.strerror}", "run `maskwright evaluate`"
            ) from error
        except (ValueError, KeyError, IndexError, TypeError, ValidationError) as error:
            raise RunError(
                f"the scores in {folder} are damaged", "run `maskwright evaluate` again"
            ) from error


CSV_COLUMNS = ("id", "class", "tp", "fp", "fn", "dice", "iou", "group", "name", "fp_background")
"""The first of per_image.csv, those of `class_columns` follow; class is the id. dice and iou are empty where the class
is in neither truth nor prediction."""
OBJECT_COLUMNS = ("id", "class_id", "pixels", "hit", "predicted")
"""Of objects.csv."""

CONFUSION = "confusion.json"
"""Rows are true classes, columns predicted ones, in pixels of all images; scores of before it was kept have none."""


def _read_confusion(file: Path, classes: int) -> Confusion | None:
    if not file.is_file():
        return None
    return np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.int64).reshape(classes, classes)


def scores(
    tallies: Tallies | Counts,
    ids: Sequence[str],
    names: Sequence[str],
    contract: MetricContract = DEFAULT,
    *,
    groups: Sequence[str] | None = None,
    advice: Sequence[str] = (),
    objects: Sequence[ObjectScore] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Numbers and intervals from what was counted of N images (counts alone will do), with their ids and the K class
    names. `objects` are kept with them: their sums are in the tallies.

    Intervals resample `groups` (the group of each image; None: every image is its own), `resamples` times. A number
    that rests on too few groups (`rests_on`) has none, and the advice says so. Raises DataError without images,
    ConfigError where the contract does not suit the classes.
    """
    if not len(ids):
        raise DataError("there are no images to score", "choose another split")
    tallies = tallies if isinstance(tallies, Tallies) else Tallies(tallies)
    contract = contract.resolved(len(names))
    groups = tuple(ids if groups is None else groups)
    rows = features(tallies, contract)
    by_groups = by_group(rows, groups)
    found = measure(total(rows), contract)
    every = tuple(numbers(found))
    spread = studentised(
        by_groups,
        lambda sums: np.stack(
            [number.read(made) for made in [measure(sums, contract)] for number in every], -1
        ),
        resamples=resamples,
        seed=seed,
    )
    intervals = {
        number: number.settle(interval, by_groups, contract)
        for number, interval in zip(every, spread.intervals, strict=True)
    }
    truth_pixels = tallies.counts_NK4[..., [0, 2]].sum((0, 2))

    def both(kind: Literal["per_class", "per_size"], position: int) -> dict[str, Any]:
        """Value and interval of each metric per class or per size."""
        own = [number for number in every if (number.kind, number.position) == (kind, position)]
        return {number.metric: float(number.read(found)[0]) for number in own} | {
            f"{number.metric}_ci95": intervals[number] for number in own
        }

    sizes = SIZES if tallies.objects_NS5 is not None else ()
    return Scores(
        contract=contract,
        metrics={
            name: Score(float(values[0]), intervals[Number(name)]) for name, values in found.values.items()
        },
        per_class=tuple(
            ClassScore(name=name, pixels=int(truth_pixels[k]), **both("per_class", k))
            for k, name in enumerate(names)
        ),
        ids=tuple(ids),
        groups=groups,
        tallies=tallies,
        advice=(*advice, *_advice(tallies, names, contract, by_groups)),
        per_size=tuple(
            SizeScore(
                size=size,
                objects=int(rows["objects"][:, s, 0].sum()),
                invented=int(rows["objects"][:, s, 4].sum()),
                **both("per_size", s),
            )
            for s, size in enumerate(sizes)
        ),
        objects=tuple(objects),
    )


def summary(confusions_NKK: Confusion, contract: MetricContract = DEFAULT) -> dict[str, float]:
    """The value of every metric, without intervals: cheap enough for each epoch. NaN where undefined."""
    contract = contract.resolved(confusions_NKK.shape[-1])
    rows = features(Tallies(tally(confusions_NKK, contract)), contract)
    return {name: float(values[0]) for name, values in measure(total(rows), contract).values.items()}


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
    joined = scores(
        Tallies.join([part.tallies for part in parts]),
        [id for part in parts for id in part.ids],
        names,
        contract,
        groups=[group for part in parts for group in part.groups],
        objects=[entry for part in parts for entry in part.objects],
        resamples=resamples,
        seed=seed,
    )
    temperatures = {part.temperature for part in parts}
    kept = [part.confusion_KK for part in parts if part.confusion_KK is not None]
    return replace(
        joined,
        temperature=temperatures.pop() if len(temperatures) == 1 else math.nan,
        confusion_KK=np.sum(kept, axis=0) if len(kept) == len(parts) else None,
    )


def _advice(
    tallies: Tallies, names: Sequence[str], contract: MetricContract, by_groups: Features
) -> Iterator[str]:
    counts_NK4, number = tallies.counts_NK4, len(by_groups["counts"])
    yield from not_enough(by_groups, names, contract, "picture" if number == len(counts_NK4) else "group")
    if contract.empty == "skip":
        left_out = int(np.isnan(image_values(tallies, contract)["dice_image"]).sum())
        if left_out:
            where = f"{left_out} of {len(counts_NK4)} pictures have no foreground in truth and prediction"
            yield f"{where}: dice_image and iou_image leave them out"
    absent = [name for name, total in zip(names, counts_NK4[..., :3].sum((0, 2)), strict=True) if not total]
    if absent:
        yield f"in neither truth nor prediction: {', '.join(absent)}"


def _temperature(file: Path) -> float:
    """What calibration.json says; 1 without it. Raises OSError, ValueError, KeyError or TypeError."""
    if not file.exists():
        return 1.0
    return float(_floats(json.loads(file.read_text(encoding="utf-8")))["temperature"])


def _plain(fields: Mapping[str, object]) -> dict[str, object]:
    """NaN becomes None, tuples lists: what JSON can say."""
    return {name: _null(value) for name, value in fields.items()}


def _null(value: object) -> object:
    if isinstance(value, dict):
        return _plain(value)
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
