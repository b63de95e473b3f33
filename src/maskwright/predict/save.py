"""Predictions of many pictures into a folder: decoding, the network and writing at the same time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.errors import ConfigError, DataError
from maskwright.files import write_bytes
from maskwright.metrics.calibration import expected_dice
from maskwright.predict.encode import ENCODE, TAILS, Kind
from maskwright.predict.inputs import Job, plan
from maskwright.predict.pipeline import overlap
from maskwright.predict.review import Review, check_review, write_doubts
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Saved:
    """What became of one input of `Predictor.save`."""

    input: Path
    outputs: tuple[Path, ...] = ()
    error: str = ""
    """Why there are no outputs; empty when all went well."""
    expected_dice: float = math.nan
    """Asked for by `review_below`; NaN otherwise."""
    review: Path | None = None
    """The overlay of a doubtful mask."""


class Answers(Protocol):
    """What masks can be saved of: a Predictor, an Ensemble."""

    @property
    def classes(self) -> ClassMap: ...

    def picture(self, image: np.ndarray | Image | str | Path) -> Picture: ...

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction: ...


def save_answers(
    self: Answers,
    out: str | Path,
    *inputs: str | Path,
    save: Sequence[Kind] = ("mask",),
    review_below: float | None = None,
    progress: Progress = SILENT,
) -> list[Saved]:
    """Predict files, folders and globs into the folder `out`; one entry per picture, in order.

    A folder stands for the pictures directly in it; `photos/**/*.jpg` reaches deeper, and the sub-folders
    appear in `out` again. For `a.jpg`: `mask` writes `a.png`, a palette PNG whose pixel values are the
    class ids; `overlay` writes `a_overlay.jpg`; `probability` writes `a_probability.npz` with
    `probabilities` (K H W, float32, those the mask was decided from), `classes` and `temperature`. Where `a.png`
    is an input as well, the masks are `a.jpg.png` and `a.png.png`.

    review_below: an overlay of every picture whose expected Dice (in [0, 1], see `expected_dice`; without truth,
    from the calibrated probabilities) is below it goes into `out/review`, named so that the worst come first;
    `review.csv` there lists all pictures.

    A picture that cannot be read is an entry with `error`, and the rest is done. Raises DataError, before
    anything is predicted, for an input that is not there or would be overwritten, and when `out/review` is not
    empty; ConfigError for a `review_below` outside [0, 1]; RunError when a result cannot be written.
    """
    unknown = [kind for kind in save if kind not in TAILS]
    if unknown or not save:
        raise ConfigError(f"--save {','.join(unknown)} is not known", f"choose from {', '.join(TAILS)}")
    jobs = plan(Path(out), inputs, save)
    review = Review(Path(out) / "review", review_below)
    if review_below is not None:
        check_review(review.folder, review_below, [path for job in jobs for path in job.targets.values()])
    results: list[Saved] = []
    stages = partial(_read, self), partial(_predicted, self, review), partial(_write, self.classes)
    with (
        progress.task("Predicting", len(jobs)) as advance,
        closing(overlap(jobs, *stages)) as finished,
    ):
        for result in finished:
            results.append(result)
            advance(1)
    if review_below is not None:
        write_doubts(review.folder, [(each.expected_dice, each.input, each.review) for each in results])
    return results


@dataclass(frozen=True)
class Answered:
    """A job whose picture has been predicted."""

    job: Job
    picture: Picture
    said: Prediction
    expected_dice: float
    doubt: Path | None


def _read(predictor: Answers, job: Job) -> Picture | DataError:
    """First stage, in a thread of its own. What is read otherwise than whole is told apart here, and comes out as a
    type of its own, for which the next stage has another way."""
    try:
        return predictor.picture(job.source)
    except DataError as error:
        return error


def _predicted(predictor: Answers, review: Review, job: Job, found: Picture | DataError) -> Answered | Saved:
    """Second stage, in the caller's thread: one job at a time, in order. A job that ends here is Saved already."""
    if isinstance(found, DataError):
        return Saved(job.source, error=str(found))
    said = predictor(found)
    if review.below is None:
        return Answered(job, found, said, math.nan, None)
    dice = expected_dice(said.calibrated, said.mask)
    return Answered(job, found, said, dice, review.place(dice, job.source))


def _write(classes: ClassMap, answer: Answered | Saved) -> Saved:
    """Third stage, in several threads: each file is whole or not there."""
    if isinstance(answer, Saved):
        return answer
    job, what = answer.job, (answer.picture, answer.said, classes)
    for kind, target in job.targets.items():
        write_bytes(target, ENCODE[kind](*what))
    if answer.doubt is not None:
        write_bytes(answer.doubt, ENCODE["overlay"](*what))
    return Saved(
        job.source, tuple(job.targets.values()), expected_dice=answer.expected_dice, review=answer.doubt
    )
