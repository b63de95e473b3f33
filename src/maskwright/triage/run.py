"""A run in, the labels of its data set out, ranked by how likely they are wrong."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from maskwright.data.dataset import Dataset
from maskwright.data.tiles import answering
from maskwright.draw import jpeg, overlay, scaled
from maskwright.errors import ConfigError, DataError
from maskwright.evaluation import check_classes
from maskwright.progress import SILENT, Progress
from maskwright.tensors import IGNORE, Mask, Picture
from maskwright.triage.disputes import Region, disputes
from maskwright.triage.judges import Panel

SHOWN = 60
"""Pictures of the page: the worst."""
BOX = (300, 360)
"""Largest height and width of a picture there."""
MARK = (255, 214, 10)


@dataclass(frozen=True)
class Case:
    """A label and what disputes it."""

    id: str
    split: str
    seen: bool
    """Whether its judge was trained on it."""
    regions: tuple[Region, ...]
    """Those that are disputed, the worst first."""

    @property
    def score(self) -> float:
        """Of the worst region; 0 where nothing is disputed."""
        return self.regions[0].score if self.regions else 0.0


@dataclass(frozen=True)
class Exhibit:
    """JPEG: the picture; it with its label, and with the prediction laid over, disputed regions in boxes."""

    picture: bytes
    label: bytes
    prediction: bytes


@dataclass(frozen=True)
class Triage:
    """What was found."""

    name: str
    dataset: Dataset
    source: Mapping[str, object]
    """The keys of the dataset.yaml that was judged."""
    cases: tuple[Case, ...]
    """Every labelled picture, the most suspicious first."""
    exhibits: Mapping[str, Exhibit]
    """Of the first SHOWN, by id."""
    broken: tuple[str, ...]
    """One line per picture that could not be read."""

    def changeable(self) -> tuple[Case, ...]:
        """Those of train and validation: a test split that is cleaned by a model's own opinion flatters it."""
        return tuple(case for case in self.cases if case.split in ("train", "validation"))

    def worst(self, count: int) -> tuple[Case, ...]:
        """The first `count` of `changeable`. Raises ConfigError where there are not so many with a dispute."""
        disputed = [case for case in self.changeable() if case.regions]
        if count > len(disputed):
            raise ConfigError(
                f"{count} labels are asked for, and {len(disputed)} of train and validation are disputed",
                "ask for fewer",
            )
        return tuple(disputed[:count])


def triage(panel: Panel, progress: Progress = SILENT) -> Triage:
    """Predict every labelled picture with its judge and rank the labels.

    Pictures go through alone at their own size, exactly as in evaluation; memory holds one of them, a few numbers of
    each, and the exhibits. Raises RunError and DataError: no model, classes that differ.
    """
    dataset = panel.dataset
    cases: list[Case] = []
    broken: list[str] = []
    shown: list[tuple[float, int, Exhibit]] = []  # a heap, the least suspicious of the worst on top
    with progress.task("Judging labels", sum(len(judge.items) for judge in panel.judges)) as advance:
        for judge in panel.judges:
            predictor = judge.load()
            check_classes(predictor.classes.names, dataset.classes.names)
            for item in judge.items:
                advance(1)
                try:
                    picture, label = dataset.image(item, predictor.channels), dataset.mask(item)
                except DataError as error:
                    broken.append(str(error))
                    continue
                if item.piece is not None:  # what lies outside, a neighbour answers for
                    label = np.where(answering(item.piece), label, np.uint8(IGNORE))
                prediction = predictor(picture)
                regions = disputes(label, prediction.calibrated)
                cases.append(case := Case(item.id, item.split, item.id in judge.seen, regions))
                if len(shown) < SHOWN or case.score > shown[0][0]:
                    exhibit = _exhibit(dataset, picture, label, prediction.mask, regions)
                    heapq.heappush(shown, (case.score, len(cases) - 1, exhibit))
                    if len(shown) > SHOWN:
                        heapq.heappop(shown)
    if not cases:
        raise DataError(f"{dataset.name} has no label that can be read", broken[0] if broken else "add masks")
    return Triage(
        name=panel.name,
        dataset=dataset,
        source=panel.source,
        cases=tuple(sorted(cases, key=lambda case: -case.score)),
        exhibits={cases[place].id: exhibit for _, place, exhibit in shown},
        broken=tuple(broken),
    )


def _exhibit(
    dataset: Dataset, picture: Picture, label: Mask, said: Mask, regions: Sequence[Region]
) -> Exhibit:
    plain = scaled(picture, BOX)
    ratio = plain.height / picture.shape[0], plain.width / picture.shape[1]

    def drawn(mask: Mask) -> bytes:
        image = scaled(overlay(picture, mask, dataset.classes), BOX)
        draw = ImageDraw.Draw(image)
        for region in regions:
            top, left, height, width = region.box
            x, y = left * ratio[1], top * ratio[0]
            right, bottom = x + width * ratio[1], y + height * ratio[0]
            # A little outside, so that the smallest region still has a box; dark and light, to be seen on any ground.
            for away, colour, line in ((4, (0, 0, 0), 4), (3, MARK, 2)):
                first = max(x - away, 4 - away), max(y - away, 4 - away)
                last = min(right + away, image.width - 5 + away), min(bottom + away, image.height - 5 + away)
                draw.rectangle((*first, *last), outline=colour, width=line)
        return jpeg(image, quality=80)

    return Exhibit(jpeg(plain, quality=80), drawn(label), drawn(said))
