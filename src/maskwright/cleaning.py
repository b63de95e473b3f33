"""Which cleaning of masks helps, from pictures that a model was not trained on.

The best of many on a few pictures looks better than it is. So the choosing itself is judged: the pictures (or groups of
them) are dealt into FOLDS parts, and each part is cleaned by what is best on the others. The difference that this makes
is the gain. A cleaning is kept, the best on all, only where that paired difference is above 0 by the rules of
`compare`: its whole interval is, and p is under 0.05. Of too few pictures for an interval p alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Literal

import numpy as np
from jaxtyping import Float64

from maskwright.compare import LEVEL, Comparison, compare
from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.evaluation import PredictsMasks, check_classes
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import Counts, confusion, tally
from maskwright.metrics.measures import Tallies, image_values
from maskwright.metrics.scores import Scores, scores
from maskwright.predict.clean import Cleaning, cut, hole_sizes, object_sizes, small, without
from maskwright.predict.stitch import answer
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Mask, Prediction

THRESHOLDS = (None, 0.3, 0.4, 0.6, 0.7)
HOLES = (0, 64, 1024)
SMALLEST = (0, 16, 64, 256, 1024, 4096)
"""In pixels. Few and far apart: finer steps would follow the chance of the pictures."""
PICTURES = 200
"""At most so many, from all over the split."""
FOLDS = 5
METRIC: Literal["dice_image"] = "dice_image"


@dataclass(frozen=True)
class Chosen:
    """The best cleaning, and what choosing is worth."""

    cleaning: Cleaning
    """The best on all pictures; one that does nothing where none is better."""
    comparison: Comparison
    """Cleaned against not, each picture by what was chosen without it."""
    pictures: int

    @property
    def helps(self) -> bool:
        """Whether it is to be kept."""
        sure = self.comparison.p < LEVEL and not self.comparison.ci95[0] <= 0  # NaN: there is no interval
        return self.cleaning != Cleaning() and self.comparison.difference > 0 and sure

    @property
    def sentence(self) -> str:
        pictures = "1 picture" if self.pictures == 1 else f"{self.pictures} pictures"
        (low, high), p = self.comparison.ci95, f"p {self.comparison.p:.2g}"
        sure = p if math.isnan(low) else f"{low:+.4f} to {high:+.4f}, {p}"
        found = f"{self.comparison.difference:+.4f} {METRIC} ({sure}) on {pictures}"
        if self.helps:
            said = self.cleaning.model_dump(exclude_defaults=True)
            return f"kept: {', '.join(f'{name} {value}' for name, value in said.items())}; {found}"
        if self.cleaning == Cleaning():
            return f"none is kept: nothing tried is better than the masks as they are ({pictures})"
        return f"none is kept: no clear gain, {found}"


def grid(classes: int) -> list[Cleaning]:
    """All that is tried, the one that does nothing first. A threshold is for two classes."""
    thresholds = THRESHOLDS if classes == 2 else (None,)
    return [
        Cleaning(threshold=threshold, holes=holes, smallest=smallest)
        for threshold, holes, smallest in product(thresholds, HOLES, SMALLEST)
    ]


def choose_cleaning(
    predictor: PredictsMasks,
    dataset: Dataset,
    *,
    split: str = "validation",
    contract: MetricContract = DEFAULT,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Chosen:
    """Try the whole grid on `split`, at the pictures' own size. Files that cannot be read are left out.

    Raises DataError when the classes are not the predictor's, and when no picture can be used.
    """
    names = dataset.classes.names
    check_classes(predictor.classes.names, names)
    contract, tried = contract.resolved(len(names)), grid(len(names))
    items = [item for item in dataset.scored(split) if item.mask is not None]
    places = sorted({round(place) for place in np.linspace(0, len(items) - 1, PICTURES)}) if items else []
    counted: list[Counts] = []
    ids, groups = list[str](), list[str]()
    with progress.task(f"Cleaning {split}", len(places)) as done:
        for item in (items[place] for place in places):
            done(1)
            try:
                picture, truth = dataset.image(item, predictor.channels), dataset.mask(item)
            except DataError:
                continue
            said = answer(predictor, item, picture)
            counted.append(_count(said, truth, tried, contract))
            ids.append(item.id)
            groups.append(item.group)
    if not ids:
        raise DataError(
            f"{dataset.name} has no usable picture in split {split!r}", "choose another with --split"
        )
    counts_GNK4 = np.stack(counted, axis=1)
    dice_GN = np.stack([image_values(Tallies(each), contract)[METRIC] for each in counts_GNK4])
    without_N = _out_of_fold(dice_GN, groups, seed)

    def scored(choice_N: np.ndarray) -> Scores:
        counts_NK4 = counts_GNK4[choice_N, np.arange(len(ids))]
        return scores(counts_NK4, ids, names, contract, groups=groups, seed=seed)

    sides = scored(np.zeros(len(ids), np.int64)), scored(without_N)
    comparison = compare([sides[0]], [sides[1]], METRIC, names=("as they are", "cleaned"))
    return Chosen(tried[_best(dice_GN)], comparison, len(ids))


def _count(said: Prediction, truth_HW: Mask, tried: Sequence[Cleaning], contract: MetricContract) -> Counts:
    """G K 4: of each cleaning."""
    classes = len(said.probabilities)
    found = [
        tally(confusion(truth_HW, mask_HW, classes, contract.ignore), contract)
        for mask_HW in _masks(said, tried)
    ]
    return np.stack(found)


def _masks(said: Prediction, tried: Sequence[Cleaning]) -> Iterator[Mask]:
    """`clean` for each of them; what neighbours in the grid share is done once."""
    for (threshold, holes), group in groupby(tried, lambda each: (each.threshold, each.holes)):
        mask_HW = cut(said, threshold)
        closed_HW = without(mask_HW, small(hole_sizes(mask_HW), holes))
        sizes_HW = object_sizes(closed_HW)
        for each in group:
            yield without(closed_HW, small(sizes_HW, each.smallest))


def _best(dice_GN: Float64[np.ndarray, "G N"]) -> int:
    """Of equally good ones the first, which does less. Pictures without a Dice count nowhere."""
    defined = ~np.isnan(dice_GN)
    means_G = np.nan_to_num(dice_GN).sum(1) / np.maximum(defined.sum(1), 1)
    return int(np.argmax(np.round(means_G, 9)))


def _out_of_fold(dice_GN: Float64[np.ndarray, "G N"], groups: Sequence[str], seed: int) -> np.ndarray:
    """N: for each picture the best cleaning on the parts that it is not in."""
    names, of_N = np.unique(np.array(groups), return_inverse=True)
    part_N = np.random.default_rng(seed).permutation(len(names))[of_N] % FOLDS
    choice_N = np.zeros(len(groups), np.int64)
    for part in range(FOLDS):
        if (part_N == part).any() and (part_N != part).any():
            choice_N[part_N == part] = _best(dice_GN[:, part_N != part])
    return choice_N
