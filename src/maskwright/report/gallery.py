"""The best, middling, worst and most uncertain pictures of an evaluation, kept beside its scores for the report."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.draw import jpeg, overlay, scaled
from maskwright.errors import RunError
from maskwright.files import write_bytes, write_text
from maskwright.metrics.scores import Scores
from maskwright.predict.predictor import Predictor
from maskwright.predict.stitch import answer
from maskwright.progress import SILENT, Progress

FOLDER = "gallery"
INDEX = "gallery.json"
PER_KIND = 4
BOX = (384, 384)
"""Largest height and width of a kept picture: sharp on a phone and on a desk, and 16 trios take about 1.3 MB."""
PARTS = ("picture", "truth", "prediction")


@dataclass(frozen=True)
class Exhibit:
    """One picture with its truth and its prediction, as JPEG."""

    kind: str
    """best, median, worst or uncertain."""
    title: str
    """The picture's id."""
    score: float
    """Its Dice; NaN where nothing of it is foreground."""
    picture: bytes
    truth: bytes
    prediction: bytes
    expected: float = math.nan
    """The Dice that its probabilities foretell (`metrics.calibration.expected_dice`); NaN where they were not asked."""


def choose(
    scores: Mapping[str, float],
    per_kind: int = PER_KIND,
    expected: Mapping[str, float] | None = None,
) -> list[tuple[str, str]]:
    """(kind, id): the best from the top, those around the median, the worst from the bottom, and of the others those
    with the lowest `expected` score, the most uncertain; none twice.

    `scores` is the score of each picture by id; NaN is left out of the first three. Of few pictures each kind gets its
    share.
    """
    ranked = sorted(
        (id for id, value in scores.items() if not math.isnan(value)), key=lambda id: (-scores[id], id)
    )
    count = min(per_kind, math.ceil(len(ranked) / 3))
    best, worst = ranked[:count], ranked[max(count, len(ranked) - count) :][::-1]
    between = ranked[count : len(ranked) - len(worst)]
    start = max(0, (len(between) - count) // 2)
    kinds = {"best": best, "median": between[start : start + count], "worst": worst}
    chosen = [(kind, id) for kind, ids in kinds.items() for id in ids]
    shown = {id for _, id in chosen}
    foretold = {
        id: value for id, value in (expected or {}).items() if id not in shown and not math.isnan(value)
    }
    doubtful = sorted(foretold, key=lambda id: (foretold[id], id))
    return chosen + [("uncertain", id) for id in doubtful[:per_kind]]


def save_gallery(
    scores_folder: Path,
    predictor: Predictor,
    dataset: Dataset,
    scores: Scores,
    *,
    split: str = "test",
    progress: Progress = SILENT,
) -> None:
    """Predict the chosen pictures of `split` again and keep them in `scores_folder/gallery`. Raises RunError.

    The index is written last, so that a report never shows half a gallery.
    """
    folder = scores_folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    quality_N = scores.tallies.quality_N
    dice = scores.by_image()
    expected = {} if quality_N is None else dict(zip(scores.ids, quality_N.tolist(), strict=True))
    items = {item.id: item for item in dataset.scored(split)}
    chosen = choose(dice, expected=expected)
    index = []
    with progress.task("Drawing examples", len(chosen)) as advance:
        for number, (kind, id) in enumerate(chosen):
            picture = dataset.image(items[id], predictor.channels)
            masks = dataset.mask(items[id]), answer(predictor, items[id], picture).mask
            drawn = (picture, *(overlay(picture, mask, dataset.classes) for mask in masks))
            for part, pixels in zip(PARTS, drawn, strict=True):
                write_bytes(folder / f"{number:02}-{part}.jpg", jpeg(scaled(pixels, BOX), quality=82))
            said = {"score": dice[id], "expected": expected.get(id, math.nan)}
            index.append({"kind": kind, "title": id} | {k: v for k, v in said.items() if not math.isnan(v)})
            advance(1)
    write_text(folder / INDEX, json.dumps(index, indent=2, allow_nan=False) + "\n")


def load_gallery(scores_folder: Path) -> Sequence[Exhibit]:
    """What `save_gallery` kept; empty where there is none. Raises RunError where it is damaged."""
    folder = scores_folder / FOLDER
    if not (folder / INDEX).is_file():
        return []
    try:
        return [
            Exhibit(
                kind=str(entry["kind"]),
                title=str(entry["title"]),
                score=float(entry.get("score", math.nan)),
                expected=float(entry.get("expected", math.nan)),
                **{part: (folder / f"{number:02}-{part}.jpg").read_bytes() for part in PARTS},
            )
            for number, entry in enumerate(json.loads((folder / INDEX).read_text(encoding="utf-8")))
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder} is damaged: {error}", "delete it, or run `maskwright evaluate` again"
        ) from error
