"""The temperature of a predictor, from pictures that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from maskwright.data.dataset import Dataset, Item
from maskwright.data.tiles import answering
from maskwright.errors import DataError
from maskwright.evaluation import PredictsMasks, check_classes
from maskwright.metrics.calibration import count_confidence, fit_temperature
from maskwright.metrics.measures import ece
from maskwright.progress import SILENT, Progress
from maskwright.tensors import IGNORE, Mask, Prediction

PICTURES, PIXELS = 128, 2000
"""At most so many pictures, and pixels of each: memory and time have a bound, and one number needs no more."""


@dataclass(frozen=True)
class Fitted:
    """A temperature, and what it does to the pixels that it was fitted on."""

    temperature: float
    ece_before: float
    """Expected calibration error of these pixels without any temperature."""
    ece: float
    pictures: int
    pixels: int


def calibrate(
    predictor: PredictsMasks,
    dataset: Dataset,
    *,
    split: str = "validation",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Fitted:
    """Fit a temperature on `split`: see `fit_temperature`.

    PICTURES from all over the split are predicted at their own size, as evaluation does it (with the predictor's own
    test-time augmentation), and PIXELS of each are drawn without replacement, by `seed` and the picture's position:
    the same every time. Ignored pixels do not count, files that cannot be read are left out. Of a tile only the core
    is drawn from, which is what evaluation scores of it.

    Raises DataError when the classes are not the predictor's, and when no picture can be used.
    """
    check_classes(predictor.classes.names, dataset.classes.names)
    items = [item for item in dataset.split(split) if item.mask is not None]
    chosen = sorted({round(place) for place in np.linspace(0, len(items) - 1, PICTURES)}) if items else []
    shares: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    with progress.task(f"Calibrating on {split}", len(chosen)) as done:
        for place in chosen:
            done(1)
            try:
                picture, truth = dataset.image(items[place], predictor.channels), dataset.mask(items[place])
            except DataError:
                continue
            usable = np.flatnonzero(_counting(items[place], truth))
            random = np.random.default_rng((seed, place))
            drawn = random.choice(usable, min(PIXELS, len(usable)), replace=False, shuffle=False)
            shares.append(predictor(picture).probabilities.reshape(len(dataset.classes), -1)[:, drawn])
            truths.append(truth.ravel()[drawn])
    if not shares:
        raise DataError(
            f"{dataset.name} has no usable picture in split {split!r}", "choose another with --split"
        )
    shares_KS, truth_S = np.concatenate(shares, axis=1), np.concatenate(truths)
    temperature = fit_temperature(shares_KS.T, truth_S)
    # The drawn pixels as one picture, a single row high.
    whole = Prediction(truth_S[None], shares_KS[:, None], temperature)
    before, after = (
        float(ece(count_confidence(said.calibrated, truth_S[None], np.ones((1, len(truth_S)), bool))[0]))
        for said in (replace(whole, temperature=1.0), whole)
    )
    return Fitted(temperature, before, after, len(shares), len(truth_S))


def _counting(item: Item, truth_HW: Mask) -> Bool[np.ndarray, "H W"]:
    """The pixels that evaluation counts of an item."""
    known_HW: Bool[np.ndarray, "H W"] = np.not_equal(truth_HW, IGNORE)
    return known_HW if item.piece is None else known_HW & answering(item.piece)
