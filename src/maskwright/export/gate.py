"""The parity gate: on real validation pictures, is the file the model that was evaluated?

The reference is the Predictor that validation and evaluation use. Pictures go through alone at their own size and are
scored against their masks; then batches of three sizes that no network likes (odd, narrow, small, large) are compared
pixel by pixel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from maskwright.compare import compare
from maskwright.data.dataset import Dataset, Item
from maskwright.errors import DataError, RunError
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.counts import Counts, confusion, tally
from maskwright.metrics.enough import ENOUGH_CHANGES
from maskwright.metrics.intervals import Interval
from maskwright.metrics.measures import Tallies
from maskwright.metrics.scores import Scores, scores
from maskwright.predict.backends import OUTPUTS, Backend
from maskwright.predict.formats import Precision
from maskwright.predict.passport import Proof, Row, Tolerance, as_text
from maskwright.predict.predictor import Predictor
from maskwright.progress import SILENT, Progress
from maskwright.receipt import processor
from maskwright.tensors import Mask, Picture

TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(flipped=1e-4, dice=1e-3, probability=1e-2),
    "fp16": Tolerance(flipped=1e-2, dice=5e-3, probability=0.5),
    "bf16": Tolerance(flipped=1e-2, dice=5e-3, probability=0.5),
    "int8": Tolerance(flipped=2e-2, dice=1e-2, probability=1.0),
}
"""fp32: rounding alone. The others compute with 8 to 11 bits: what counts there is that Dice does not move."""

ALONE = 10
"""Times `Tolerance.flipped` may flip in any one batch: a runtime that fails at a small size would go unseen among the
pixels of all others. Of honest int8 files up to 2.4 % flip in a batch, and 5.7 % in a picture (four networks, pets)."""
PICTURES = 150
"""At most, from all over the split."""
STEPS = 2000
"""Ends of the interval of the change of Dice are the next of so many steps to 1 beyond: flips of single pixels, and
objects that appear or are gone, are so rare that the pictures at hand may hold none (docs/intervals.md)."""
SHAPES = ((1, 64, 64), (3, 65, 97), (3, 131, 67), (1, 333, 500), (3, 256, 256), (1, 801, 600), (3, 640, 799))
"""N H W of the batches beside them."""
TIMED = 8
"""Pictures whose latency counts, the last ones. Each backend has answered once untimed before the first of all."""


@dataclass
class Tally:
    """What is seen of one backend; grows picture by picture."""

    logits: float = 0.0
    probability: float = 0.0
    flipped: int = 0
    pixels: int = 0
    worst: float = 0.0
    """Share of flipped pixels in the batch that has most."""
    counts: list[Counts] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def compare(self, here: Sequence[NDArray[Any]], there: Sequence[NDArray[Any]]) -> float:
        """The share of flipped pixels. Both are mask, calibrated, logits of the same pictures. NaN counts as infinitely
        far."""
        (mask, shares, logits), (mask_there, shares_there, logits_there) = here, there
        flipped = int(np.count_nonzero(mask != mask_there))
        self.flipped += flipped
        self.pixels += mask.size
        self.probability = max(self.probability, _farthest(shares, shares_there))
        self.logits = max(self.logits, _farthest(logits, logits_there))
        return flipped / mask.size


@dataclass
class Contender:
    """A backend in the gate."""

    backend: Backend
    precision: Precision
    seen: Tally = field(default_factory=Tally)


def prove(
    backends: Sequence[tuple[Backend, Precision]],
    predictor: Predictor,
    dataset: Dataset,
    items: Sequence[Item],
    *,
    tolerance: Tolerance | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Proof:
    """Put each backend beside `predictor` on pictures of one split, see `chosen`; the first is the file's own runtime.

    One of the others that fails is left out.

    Raises DataError: none of the pictures can be read; RunError: the first fails.
    """
    classes = len(dataset.classes)
    contract = DEFAULT.resolved(classes)
    split, most = items[0].split, max(number for number, _, _ in SHAPES)
    reference, running = Tally(), [Contender(*each) for each in backends]
    with progress.task("Proving", len(items) + len(SHAPES)) as done:
        shown: list[Picture] = []
        scored: list[Item] = []
        for item in items:
            done(1)
            try:
                picture, truth = dataset.image(item, predictor.channels), dataset.mask(item)
            except DataError:
                continue
            scored.append(item)
            shown = [*shown, picture][:most]
            said = _eager(predictor, picture[None], reference)
            reference.counts.append(_count(truth, said[0][0], classes, contract))
            answers = _answers(running, picture[None], progress, timed=True)
            for each, there in answers:
                each.seen.compare(said, there)
                each.seen.counts.append(_count(truth, there[0][0], classes, contract))
            running = [each for each, _ in answers]
        if not scored:
            raise DataError(f"no picture of split {split!r} can be read", "`maskwright data audit` says why")
        for shape in SHAPES:
            done(1)
            batch = _batch(shown, shape)
            said = _eager(predictor, batch, None)
            answers = _answers(running, batch, progress, timed=False)
            for each, there in answers:
                each.seen.worst = max(each.seen.worst, each.seen.compare(said, there))
            running = [each for each, _ in answers]
    judged = _scores(reference.counts, scored, dataset, contract)
    limit = tolerance or TOLERANCES[backends[0][1]]
    rows = [
        _row(
            each.backend.name,
            each.precision,
            each.seen,
            judged,
            _scores(each.seen.counts, scored, dataset, contract),
            tolerance or TOLERANCES[each.precision],
        )
        for each in running
    ]
    name = f"PyTorch {torch.__version__.partition('+')[0]}"
    return Proof(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        data=as_text(dataset.name),
        fingerprint=dataset.fingerprint(),
        split=as_text(split),
        pictures=len(scored),
        shapes=SHAPES,
        contract=contract.hash,
        threads=threads or torch.get_num_threads(),
        cpu=as_text(processor()),
        tolerance=limit,
        reference=_row(name, "fp32", reference, judged, judged, limit),
        rows=tuple(rows),
    )


def chosen(dataset: Dataset, split: str, most: int) -> list[Item]:
    """Pictures with masks from all over the split. Raises ConfigError or DataError where there are none."""
    items = [item for item in dataset.split(split) if item.mask is not None]
    if not items:
        there = sorted({item.split for item in dataset.items})
        raise DataError(
            f"{dataset.name} has no pictures with masks in split {split!r}", f"it has: {', '.join(there)}"
        )
    return spread(items, most)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, from all over."""
    return [
        items[place] for place in sorted({round(place) for place in np.linspace(0, len(items) - 1, most)})
    ]


def _eager(predictor: Predictor, images: np.ndarray, timed: Tally | None) -> list[NDArray[Any]]:
    """Mask, calibrated probabilities and logits of pictures, each alone, as evaluation predicts them."""
    masks, shares, logits = [], [], []
    if timed is not None and not timed.seconds:
        predictor.with_logits(images[0])
    for picture in images:
        began = time.perf_counter()
        said, raw = predictor.with_logits(picture)
        if timed is not None:
            timed.seconds.append(time.perf_counter() - began)
        masks.append(said.mask)
        shares.append(said.calibrated)
        logits.append(raw)
    return [np.stack(masks), np.stack(shares), np.stack(logits)]


def _answers(
    running: Sequence[Contender], images: np.ndarray, progress: Progress, *, timed: bool
) -> list[tuple[Contender, list[NDArray[Any]]]]:
    """Mask, calibrated probabilities and logits of each backend that can say them. Raises RunError of the first."""
    found = []
    for each in running:
        try:
            found.append((each, _asked(each.backend, images, each.seen if timed else None)))
        except RunError as error:
            if each is running[0]:
                raise
            progress.say(f"Left out of the proof: {error.problem}")
    return found


def _asked(backend: Backend, images: np.ndarray, timed: Tally | None) -> list[NDArray[Any]]:
    if timed is not None:
        if not timed.seconds:  # the first call compiles
            backend(images, OUTPUTS[:2])
        began = time.perf_counter()
        backend(images, OUTPUTS[:2])
        timed.seconds.append(time.perf_counter() - began)
    return backend(images, (OUTPUTS[0], *OUTPUTS[2:]))


def _batch(pictures: Sequence[Picture], shape: tuple[int, int, int]) -> np.ndarray:
    """Real pictures, stretched to N H W."""
    number, height, width = shape
    chosen = [pictures[place % len(pictures)] for place in range(number)]
    return np.stack([_stretched(picture, height, width) for picture in chosen])


def _stretched(picture: Picture, height: int, width: int) -> Picture:
    bands = [
        Image.fromarray(band).resize((width, height), Image.Resampling.BILINEAR)
        for band in picture.transpose(2, 0, 1)
    ]
    return np.stack([np.asarray(band) for band in bands], axis=2)


def _count(truth: Mask, mask: Mask, classes: int, contract: MetricContract) -> Counts:
    return tally(confusion(truth, mask, classes, contract.ignore), contract)


def _scores(
    counts: Sequence[Counts], items: Sequence[Item], dataset: Dataset, contract: MetricContract
) -> Scores:
    return scores(
        Tallies(np.stack(counts)),
        [item.id for item in items],
        dataset.classes.names,
        contract,
        groups=[item.group for item in items],
    )


def _row(
    name: str, precision: Precision, seen: Tally, reference: Scores, own: Scores, limit: Tolerance
) -> Row:
    found = compare([reference], [own], metric="dice_image", names=("PyTorch", name), enough=ENOUGH_CHANGES)
    row = Row(
        backend=name,
        precision=precision,
        logits=_told(seen.logits),
        probability=_told(seen.probability),
        flipped=seen.flipped,
        pixels=seen.pixels,
        worst=seen.worst,
        dice=_told(own["dice_image"].value),
        change=_told(found.difference),
        change_ci95=None if any(map(math.isnan, found.ci95)) else outward(found.ci95),
        seconds=_latency(seen.seconds),
    )
    return row.model_copy(update={"faults": faults(row, limit)})


def faults(row: Row, limit: Tolerance) -> tuple[str, ...]:
    """What of a row is over the tolerance, in words."""
    found = []
    if row.share > limit.flipped:
        found.append(f"{row.share:.4%} of pixels flipped, at most {limit.flipped:.4%}")
    if row.worst is not None and row.worst > ALONE * limit.flipped:
        found.append(f"{row.worst:.4%} of pixels flipped in one batch, at most {ALONE * limit.flipped:.4%}")
    # Where no pixel flipped the masks are the same, whatever an interval of few pictures leaves open.
    ends = row.change_ci95 if row.flipped else None
    moved = max(abs(end) for end in ends or (row.change or 0.0,))
    if moved > limit.dice:
        found.append(f"Dice moved by up to {moved:.4f}, at most {limit.dice:.4f}")
    if row.probability is None:
        found.append("a probability is not a number")
    elif row.probability > limit.probability:
        found.append(f"a probability is off by {row.probability:.2g}, at most {limit.probability:.2g}")
    return tuple(found)


def outward(ends: Interval) -> Interval:
    """Each end moved to the next step beyond it."""
    low, high = (end * STEPS for end in ends)
    return (math.ceil(low) - 1) / STEPS, (math.floor(high) + 1) / STEPS


def _latency(seconds: Sequence[float]) -> tuple[float, float, float]:
    kept = sorted(seconds[-TIMED:]) or [0.0]
    return float(np.median(kept)), kept[0], kept[-1]


def _farthest(here: NDArray[Any], there: NDArray[Any]) -> float:
    """Picture by picture, since differences are taken in float64."""
    gaps = [
        float(np.abs(one.astype(np.float64) - other).max()) for one, other in zip(here, there, strict=True)
    ]
    return math.inf if any(map(math.isnan, gaps)) else max(gaps)


def _told(number: float) -> float | None:
    return number if math.isfinite(number) else None
