"""A predictor that cuts what is too large to be looked at whole, or what it was told to cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from maskwright.data.classes import ClassMap
from maskwright.data.part import Part
from maskwright.predict.encode import Kind
from maskwright.predict.layout import WHOLE, choose_layout
from maskwright.predict.look import Answers, TiledPrediction, compare, in_tiles
from maskwright.predict.raster import RasterAnswer, predict_raster
from maskwright.predict.save import save_answers
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


class Predicts(Answers, Protocol):
    """A Predictor, an Ensemble, an exported model."""

    @property
    def classes(self) -> ClassMap: ...

    @property
    def channels(self) -> int: ...

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture: ...

    def identity(self) -> str: ...


@dataclass(frozen=True)
class Tiled:
    """Called like a predictor; a picture that need not be cut gives what the predictor gives.

    `tile` is height, width in the picture's own pixels. None: pictures are cut where they have to be. A network of
    `fit: crop` gets tiles of what has more than WHOLE pixels, or EASY where they give what one look gives; one that
    was trained on tiles, and resizes them, such tiles; one that was trained on whole pictures, whole pictures. With
    `check`, whatever is cut and can be looked at whole is compared with that.
    """

    predictor: Predicts
    tile: tuple[int, int] | None = None
    check: bool = False

    @property
    def classes(self) -> ClassMap:
        return self.predictor.classes

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture:
        return self.predictor.picture(image)

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """Raises DataError for what is no picture, or has to be cut and nobody said how; ConfigError for a tile that is
        none."""
        picture = self.picture(image)
        layout = choose_layout(self.predictor, (picture.shape[0], picture.shape[1]), self.tile)
        if layout is None:
            return self.predictor(picture)
        said, seams = in_tiles(self.predictor, picture, layout), None
        if self.check and math.prod(layout.size) <= WHOLE:
            seams = compare(said.probabilities, said.mask, self.predictor(picture))
        return TiledPrediction(said.mask, said.probabilities, said.temperature, layout.notes, seams)

    def save_raster(
        self, file: Path, targets: Mapping[Kind, Path], count: bool = False, progress: Progress = SILENT
    ) -> RasterAnswer:
        """See `predict_raster`."""
        return predict_raster(
            self.predictor, file, targets, tile=self.tile, check=self.check, count=count, progress=progress
        )

    def identity(self) -> str:
        cut = "" if self.tile is None else f" in tiles of {self.tile[0]} x {self.tile[1]}"
        return f"{self.predictor.identity()}{cut}"

    save = save_answers
