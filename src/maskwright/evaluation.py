"""A predictor against the original masks: counts per image, then scores with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.dataset import Dataset, Item
from maskwright.errors import DataError
from maskwright.metrics.anatomy import kinds_of, mended
from maskwright.metrics.calibration import count_confidence, expected_dice
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import Confusion, confusion, tally
from maskwright.metrics.masks import Pair, pair, regions
from maskwright.metrics.measures import Tallies
from maskwright.metrics.objects import ObjectScore, by_size, objects
from maskwright.metrics.pictures import facts
from maskwright.metrics.scores import Scores, scores
from maskwright.metrics.surface import surface
from maskwright.predict.stitch import answer
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

    Pictures go through alone at their own size, exactly as `predict` does it; those that were cut into tiles tile by
    tile, and are scored as the one picture that their cores make (`Dataset.scored`). Of two classes, the second is
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
    tallies: list[Tallies] = []
    parts: list[ObjectScore] = []
    broken: list[DataError] = []
    confusion_KK = np.zeros((len(names), len(names)), np.int64)
    recut, temperature = 0, 1.0
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
            said = answer(predictor, item, picture)
            prediction = _under(contract, said)
            temperature = said.temperature
            recut += not np.array_equal(said.mask, prediction.mask)
            counted, found, pixels_KK = judge(item.id, picture, truth, prediction, len(names), contract)
            tallies.append(counted)
            parts += found
            confusion_KK += pixels_KK
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
    judged = scores(
        Tallies.join(tallies),
        [item.id for item in scored],
        names,
        contract,
        groups=[item.group for item in scored],
        advice=advice,
        objects=parts,
    )
    return replace(judged, temperature=temperature, confusion_KK=confusion_KK)


def judge(
    id: str, picture: Picture, truth: Mask, prediction: Prediction, classes: int, contract: MetricContract
) -> tuple[Tallies, list[ObjectScore], Confusion]:
    """All that is counted of one picture, as a row, its objects and its confusion matrix, under a resolved contract.

    Raises DataError, naming `id`, for a prediction of another size and for values that are no class.
    """
    seen, said = truth, prediction.mask
    try:
        if contract.resolution != "native" and truth.shape == said.shape:
            seen, said = nearest(truth, contract.resolution), nearest(said, contract.resolution)
        pixels_KK = confusion(seen, said, classes, contract.ignore)
    except DataError as error:
        raise DataError(f"{id}: {error.problem}", error.hint) from error
    counts_K4 = tally(pixels_KK, contract)
    masks = pair(seen, said, contract)
    calibrated_KHW = prediction.calibrated
    before, after = (
        _confidence(shares, masks, contract) for shares in (prediction.probabilities, calibrated_KHW)
    )
    found = regions(masks, contract.foreground or ())
    true, invented = objects(masks, found, id)
    surface_K5, distance_K2 = surface(masks, classes, contract)
    tallies = Tallies(
        counts_K4[None],
        surface_NK5=surface_K5[None],
        distance_NK2=distance_K2[None],
        objects_NS5=by_size(true, invented)[None],
        anatomy_NEK4=mended(masks, kinds_of(masks, found, contract), counts_K4, contract)[None],
        facts_NF=facts(picture)[None],
        bins_NB3=after[0][None],
        bins_before_NB3=before[0][None],
        brier_N=np.array([after[1]]),
        quality_N=np.array([expected_dice(calibrated_KHW, prediction.mask, contract.foreground)]),
    )
    return tallies, true, pixels_KK


def _confidence(shares_KHW: np.ndarray, masks: Pair, contract: MetricContract) -> tuple[np.ndarray, float]:
    """`count_confidence` where the contract counts."""
    if contract.resolution != "native":
        shares_KHW = np.stack([nearest(shares_HW, contract.resolution) for shares_HW in shares_KHW])
    return count_confidence(shares_KHW, masks.truth, masks.known)


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


def _labelled(dataset: Dataset, split: str) -> tuple[Item, ...]:
    items = dataset.scored(split)
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
