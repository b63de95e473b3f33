"""A predictor against the original masks: counts per image, then scores with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.dataset import Dataset, Item
from maskwright.errors import DataError
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import confusion, tally
from maskwright.metrics.scores import Scores, scores
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Mask, Picture, Prediction

SHOWN = 5
"""Broken files that an error names; the rest is counted."""


class PredictsMasks(Protocol):
    """What can be evaluated: `Predictor`, an ensemble, a threshold, an exported file."""

    @property
    def classes(self) -> ClassMap: ...

    @property
    def channels(self) -> int:
        """Of the pictures that it wants: 1 grey, 3 colour."""
        ...

    def __call__(self, image: Picture, /) -> Prediction: ...


def evaluate(
    predictor: PredictsMasks,
    dataset: Dataset,
    *,
    split: str = "test",
    contract: MetricContract = DEFAULT,
    skip_broken: bool = False,
    progress: Progress = SILENT,
    keep: Callable[[Item, Picture, Mask, Prediction], None] | None = None,
) -> Scores:
    """Predict every picture of `split` and score it against its original mask under `contract`.

    Pictures go through alone at their own size, exactly as `predict` does it; of two classes, the second is
    predicted where its probability is greater than the contract's threshold. `keep` is called for each
    picture, with the truth and the prediction that were scored, at native size.

    Raises ConfigError for a contract that does not suit the classes; DataError when the data set's classes
    are not the model's, when the split is empty or has no masks, and when files are broken: one error lists
    them all. With `skip_broken` those are left out, and the scores' advice says so.
    """
    names = dataset.classes.names
    check_classes(predictor.classes.names, names)
    contract = contract.resolved(len(names))
    items = _labelled(dataset, split)
    scored: list[Item] = []
    counts: list[np.ndarray] = []
    broken: list[DataError] = []
    recut = 0
    with progress.task(f"Evaluating {split}", len(items)) as done:
        for item in items:
            done(1)
            try:
                picture, truth = dataset.image(item, predictor.channels), dataset.mask(item)
            except DataError as error:
                broken.append(error)
                continue
            if broken and not skip_broken:
                continue  # it will end in an error: only read on, so that the error names all broken files
            said = predictor(picture)
            prediction = _under(contract, said)
            recut += not np.array_equal(said.mask, prediction.mask)
            counts.append(tally(_confusion(truth, prediction.mask, item, len(names), contract), contract))
            scored.append(item)
            if keep is not None:
                keep(item, picture, truth, prediction)
    if broken and not (skip_broken and scored):
        otherwise = "or use --skip-broken" if len(broken) < len(items) else ""
        hints = [hint for hint in (broken[0].hint or "mend them", otherwise) if hint]
        raise DataError(_broken_files(broken), ", ".join(hints)) from broken[0]
    advice = [f"left out: {_broken_files(broken)}"] if broken else []
    if recut:
        advice.append(
            f"the predictor's own masks are cut elsewhere than at the contract's {contract.threshold}"
        )
    return scores(
        np.stack(counts),
        [item.id for item in scored],
        names,
        contract,
        groups=[item.group for item in scored],
        advice=advice,
    )


def check_classes(model: tuple[str, ...], data: tuple[str, ...]) -> None:
    """Raises DataError, naming the difference, unless both know the same classes in the same order."""
    if model == data:
        return
    hint = "map the data's values to the model's classes in dataset.yaml"
    if only := [name for name in data if name not in model]:
        raise DataError(f"the data have classes that the model does not know: {', '.join(only)}", hint)
    if only := [name for name in model if name not in data]:
        raise DataError(f"the model knows classes that the data do not have: {', '.join(only)}", hint)
    raise DataError(
        f"the classes of the model are ordered {', '.join(model)}; of the data {', '.join(data)}", hint
    )


def nearest(mask_HW: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size (H, W): each pixel takes the value under its own centre."""
    height, width = mask_HW.shape
    rows = (2 * np.arange(size[0]) + 1) * height // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * width // (2 * size[1])
    small: Mask = mask_HW[rows[:, None], columns]
    return small


def _under(contract: MetricContract, prediction: Prediction) -> Prediction:
    """The contract's threshold is what counts, whatever the predictor's own."""
    if len(prediction.probabilities) != 2:
        return prediction
    return replace(prediction, mask=(prediction.probabilities[1] > contract.threshold).astype(np.uint8))


def _confusion(
    truth: Mask, predicted: Mask, item: Item, classes: int, contract: MetricContract
) -> np.ndarray:
    try:
        if contract.resolution != "native" and truth.shape == predicted.shape:
            truth, predicted = nearest(truth, contract.resolution), nearest(predicted, contract.resolution)
        return confusion(truth, predicted, classes, contract.ignore)
    except DataError as error:
        raise DataError(f"{item.id}: {error.problem}", error.hint) from error


def _labelled(dataset: Dataset, split: str) -> tuple[Item, ...]:
    items = dataset.split(split)
    if not items:
        there = sorted({item.split for item in dataset.items})
        raise DataError(f"{dataset.name} has no split {split!r}", f"it has: {', '.join(there)}")
    if bare := [item.id for item in items if item.mask is None]:
        raise DataError(
            f"{len(bare)} of {len(items)} pictures of split {split!r} have no mask: {_some(bare)}",
            "scores need the truth; `maskwright predict` does not",
        )
    return items


def _broken_files(errors: list[DataError]) -> str:
    pictures = "1 picture" if len(errors) == 1 else f"{len(errors)} pictures"
    return f"{pictures} that cannot be used: {_some([error.problem for error in errors])}"


def _some(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
