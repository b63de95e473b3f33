"""Predictions of many pictures into a folder: decoding, the network and writing at the same time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.part import Part
from maskwright.errors import DataError
from maskwright.files import remove_partials_of, write_bytes
from maskwright.metrics.calibration import expected_dice
from maskwright.predict.encode import ENCODE, RASTER_TAILS, Kind, check_kinds
from maskwright.predict.facts import Facts, facts_of
from maskwright.predict.inputs import Job, plan
from maskwright.predict.journal import Entry, Journal, Stamp, writing
from maskwright.predict.look import Seams, TiledPrediction
from maskwright.predict.memory import OutOfMemory, out_of_memory
from maskwright.predict.pipeline import overlap
from maskwright.predict.raster import RasterAnswer
from maskwright.predict.review import FOLDER, Review, check_limit, check_review, write_doubts
from maskwright.predict.whole import FILES, write_whole
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


OTHER_OUT = "choose another --out, or move it away"
STALE = 3600.0
"""Seconds without a write after which a partial file is what a killed process left, where others may be at work."""
OF_RASTERS: tuple[Kind, ...] = (*RASTER_TAILS, "statistics")


@dataclass(frozen=True)
class Saved:
    """What became of one input of `Predictor.save`."""

    input: Path
    outputs: tuple[Path, ...] = ()
    error: str = ""
    """Why there are no outputs, or of a raster not all; empty when all went well."""
    expected_dice: float = math.nan
    """Asked for by `review_below`; NaN otherwise."""
    review: Path | None = None
    """The overlay of a doubtful mask."""
    notes: tuple[str, ...] = ()
    """What is worth saying about the tiles that it was cut into."""
    seams: Seams | None = None
    """How far they are from one look, where that was asked for."""


class Answers(Protocol):
    """What masks can be saved of: a Predictor, an Ensemble."""

    @property
    def classes(self) -> ClassMap: ...

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture: ...

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction: ...

    def identity(self) -> str:
        """Text that differs for all that answers otherwise: weights, input side, test-time augmentation."""
        ...


@runtime_checkable
class AnswersRasters(Protocol):
    """What also knows rasters, and cuts what is large: Tiled."""

    @property
    def check(self) -> bool:
        """Whether it compares what it cut with one look."""
        ...

    def save_raster(
        self, file: Path, targets: Mapping[Kind, Path], count: bool = False, progress: Progress = SILENT
    ) -> RasterAnswer: ...


def identity_of(answers: Answers) -> str:
    """Its `identity`, and whether it cuts nothing: what is cut may get another mask. Folders of earlier versions, which
    do not say, are gone on with by what cuts, as the command line does."""
    return answers.identity() + ("" if isinstance(answers, AnswersRasters) else " whole")


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
    class ids; `plain` and `colour` the same as a grey and as an RGB PNG; `overlay` writes `a_overlay.jpg`;
    `probability` writes `a_probability.npz` with `probabilities` (K H W, float32, those the mask was decided from),
    `classes` and `temperature`; `polygons` and `rle` write the objects and the classes as JSON. Where `a.png`
    is an input as well, the masks are `a.jpg.png` and `a.png.png`. `coco` and `statistics` write files for all
    pictures of the call: `annotations.json`, and `pixels.csv` with `objects.csv`. docs/predict.md has the formats.

    review_below: an overlay of every picture whose expected Dice (in [0, 1], see `expected_dice`; without truth,
    from the calibrated probabilities) is below it goes into `out/review`, named so that the worst come first;
    `review.csv` there lists all pictures.

    What an earlier call has done in `out` is not done again, if the model and the way it looks are the same, the
    picture has not changed and all that is asked for is there: a call that was killed is gone on with by the same call.

    A picture that cannot be read is an entry with `error`, and the rest is done. Raises DataError, before
    anything is predicted, for an input that is not there or would be overwritten, and when `out/review` is not
    empty; ConfigError for a `review_below` outside [0, 1]; RunError when a result cannot be written.
    """
    check_kinds(save)
    if review_below is not None:
        check_limit(review_below)
    out, whole = Path(out), [kind for kind in FILES if kind in save]
    files = [name for kind in whole for name in FILES[kind]]
    with closing(Journal(out, identity_of(self))) as journal:
        jobs = plan(out, inputs, save, rasters=isinstance(self, AnswersRasters), ours=journal.ours)
        _begin(journal, jobs, files, review_below)
        check = isinstance(self, AnswersRasters) and self.check
        asked = Asked(save, review_below, facts=bool(whole), seams=check)
        saved = list(_saved(self, jobs, journal, asked, progress))
        names = [job.name for job, each in zip(jobs, saved, strict=True) if each.outputs or not each.error]
        journal.begin_files(files)
        for kind in whole:
            write_whole(kind, out, partial(journal.facts, names), self.classes)
    if review_below is not None:
        write_doubts(out / FOLDER, [(each.expected_dice, each.input, each.review) for each in saved])
    return saved


def _begin(journal: Journal, jobs: Sequence[Job], files: Sequence[str], review_below: float | None) -> None:
    """Nothing that is not ours will be written over or added to; then the files of pictures are noted. Raises
    DataError, and RunError where the folder cannot be written to."""
    targets = [path for job in jobs for path in job.targets.values()]
    names = [path.relative_to(journal.out).as_posix() for path in targets]
    others = [name for name in (*files, *names) if name not in journal.ours and (journal.out / name).exists()]
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise DataError(
            f"{journal.out / others[0]} is there already{more}, and was not predicted",
            OTHER_OUT,
        )
    for job in jobs:
        if taken := journal.taken_by(job):
            raise DataError(
                f"{journal.out} holds what {taken} gave; {job.source} would replace it", OTHER_OUT
            )
    strangers = journal.doubts().keys() - {job.name for job in jobs}
    begun = journal.began_review == review_below and not strangers
    if review_below is not None:
        check_review(journal.out / FOLDER, targets, begun=begun)
    journal.begin()
    if review_below is not None and not begun:
        journal.begin_review(review_below)
    journal.begin_files(names)
    with journal.alone() as alone:
        leftovers = [journal.path, *targets, *(journal.out / name for name in files)]
        remove_partials_of(leftovers, math.inf if alone else time.time() - STALE)


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the files of each picture."""

    kinds: Sequence[Kind]
    review_below: float | None
    facts: bool
    """For the files of the whole call."""
    seams: bool

    @property
    def not_of_rasters(self) -> list[Kind]:
        return [kind for kind in self.kinds if kind not in OF_RASTERS]


@dataclass(frozen=True)
class Answered:
    """A job whose picture has been predicted."""

    job: Job
    picture: Picture
    said: Prediction
    expected_dice: float
    doubt: Path | None


def _saved(
    predictor: Answers, jobs: Sequence[Job], journal: Journal, asked: Asked, progress: Progress
) -> Iterator[Saved]:
    """In the order of the jobs; those that the journal knows as done are not done again."""
    stamps = {job.name: _stamp(job.source) for job in jobs}
    done = {job.name: _done(journal, job, stamps[job.name], asked) for job in jobs}
    missing = [job for job in jobs if done[job.name] is None]
    if len(missing) < len(jobs):
        progress.say(f"{len(jobs) - len(missing)} of {len(jobs)} pictures are done already")
    review = _review(journal, asked, missing, stamps)
    stages = (
        partial(_read, predictor),
        partial(_predicted, predictor, asked, review, progress),
        partial(_write, predictor, asked, journal, stamps),
    )
    with (
        progress.task("Predicting", len(missing)) as advance,
        closing(overlap(missing, *stages)) as finished,
    ):
        for job in jobs:
            known = done[job.name]
            if known is not None:
                yield known
                continue
            yield next(finished)
            advance(1)


# Three stages. A job that is not to be decoded whole is told apart in the first, and leaves the second as Done, its
# files written.


@dataclass(frozen=True)
class Done:
    """A job of which nothing is left to be written but the journal's line."""

    job: Job
    saved: Saved
    facts: Facts | None = None


def _read(predictor: Answers, job: Job) -> Picture | DataError | None:
    """In a thread of its own, ahead of the others; a raster is not read here."""
    if job.raster:
        return None
    if isinstance(job.page, DataError):
        return job.page
    try:
        with _memory(job.source):
            return predictor.picture(job.page or job.source)
    except DataError as error:
        return error


def _predicted(
    predictor: Answers,
    asked: Asked,
    review: Review,
    progress: Progress,
    job: Job,
    found: Picture | DataError | None,
) -> Answered | Done:
    """In the caller's thread: one job at a time, in order."""
    if found is None:
        return _raster(predictor, asked, job, progress)
    if isinstance(found, DataError):
        return _failed(job, found)
    try:
        with _memory(job.source):
            said = predictor(found)
    except DataError as error:
        return _failed(job, error)
    if review.below is None:
        return Answered(job, found, said, math.nan, None)
    dice = expected_dice(said.calibrated, said.mask)
    return Answered(job, found, said, dice, review.place(dice, job.source))


def _raster(predictor: Answers, asked: Asked, job: Job, progress: Progress) -> Done:
    """Read, predicted and written in windows. It is not reviewed."""
    if others := asked.not_of_rasters:
        made = ", ".join(OF_RASTERS)
        return _failed(job, f"{job.source} is a raster, of which no {', '.join(others)} is made; {made} are")
    assert isinstance(predictor, AnswersRasters)
    try:
        with _memory(job.source):
            answer = predictor.save_raster(job.source, job.targets, asked.facts, progress)
    except DataError as error:
        return _failed(job, error)
    saved = Saved(job.source, answer.outputs, answer.missing, notes=answer.notes, seams=answer.seams)
    return Done(job, saved, answer.facts)


def _failed(job: Job, why: object) -> Done:
    return Done(job, Saved(job.source, error=str(why)))


@contextmanager
def _memory(source: Path) -> Iterator[None]:
    """Raises DataError where memory runs out: the next picture may be smaller."""
    try:
        yield
    except (RuntimeError, MemoryError, OutOfMemory) as error:
        if not out_of_memory(error):
            raise
        raise DataError(
            f"{source} needs more memory than there is", "cut it with --tile 1024,1024, or take --device cpu"
        ) from error


def _write(
    predictor: Answers,
    asked: Asked,
    journal: Journal,
    stamps: Mapping[str, Stamp | None],
    answer: Answered | Done,
) -> Saved:
    """In several threads: each file is whole or not there, then the journal says so."""
    done = answer if isinstance(answer, Done) else _written(predictor, asked, answer)
    stamp = stamps[done.job.name]
    # A raster of which something could not be made has cost hours as well.
    if (done.saved.outputs or not done.saved.error) and stamp is not None:
        journal.add(_entry(journal.out, done.job, done.saved, stamp, asked), done.facts)
    return done.saved


def _written(predictor: Answers, asked: Asked, answer: Answered) -> Done:
    job, said, what = answer.job, answer.said, (answer.picture, answer.said, predictor.classes)
    for kind, target in job.targets.items():
        write_bytes(target, ENCODE[kind](*what))
    if answer.doubt is not None:
        write_bytes(answer.doubt, ENCODE["overlay"](*what))
    notes, seams = (said.notes, said.seams) if isinstance(said, TiledPrediction) else ((), None)
    outputs = tuple(job.targets.values())
    saved = Saved(job.source, outputs, "", answer.expected_dice, answer.doubt, notes, seams)
    return Done(job, saved, facts_of(said) if asked.facts else None)


def _done(journal: Journal, job: Job, stamp: Stamp | None, asked: Asked) -> Saved | None:
    """The job as an earlier call left it."""
    if job.raster and asked.not_of_rasters:
        return None  # it is refused, whatever was done before
    entry = journal.find(job, stamp, asked.review_below, facts=asked.facts, seams=asked.seams)
    if entry is None:
        return None
    dice = entry.expected_dice if asked.review_below is not None else None
    review = entry.review if asked.review_below is not None else None
    return Saved(
        job.source,
        tuple(job.targets.values()),
        expected_dice=math.nan if dice is None else dice,
        review=None if review is None else journal.out / FOLDER / review,
        notes=entry.notes,
        seams=entry.seams if asked.seams else None,
    )


def _entry(out: Path, job: Job, saved: Saved, stamp: Stamp, asked: Asked) -> Entry:
    return Entry(
        name=job.name,
        stamp=stamp,
        outputs=tuple(target.relative_to(out).as_posix() for target in saved.outputs),
        source=str(job.source.resolve()),
        review_below=asked.review_below,
        expected_dice=None if math.isnan(saved.expected_dice) else saved.expected_dice,
        review=None if saved.review is None else saved.review.name,
        notes=saved.notes,
        checked=asked.seams,
        seams=saved.seams,
    )


def _review(
    journal: Journal, asked: Asked, missing: Sequence[Job], stamps: Mapping[str, Stamp | None]
) -> Review:
    """The folder of doubtful masks without those that will be judged again, and those of pictures that are gone."""
    doubts = journal.doubts()
    for job in missing:
        if job.name in doubts and (asked.review_below is not None or not journal.same(job, stamps[job.name])):
            with writing(journal.out):
                (journal.out / FOLDER / doubts.pop(job.name)).unlink(missing_ok=True)
    return Review(
        journal.out / FOLDER, asked.review_below, {Path(name).stem.casefold() for name in doubts.values()}
    )


def _stamp(source: Path) -> Stamp | None:
    """None where the file is gone: reading it will say so."""
    try:
        found = source.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
