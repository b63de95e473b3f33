"""Masks put in order by their shapes alone: specks go, small holes close, and of two classes the threshold moves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np
from jaxtyping import Bool, Int64
from pydantic import NonNegativeInt, ValidationError
from scipy import ndimage

from maskwright.config import Part, Share
from maskwright.data.classes import ClassMap
from maskwright.data.part import Part as Page
from maskwright.errors import DataError, RunError
from maskwright.files import file_hash, write_text
from maskwright.metrics.masks import parts
from maskwright.predict.encode import Kind
from maskwright.predict.ensemble import split_names
from maskwright.predict.hub import WEIGHTS
from maskwright.predict.model_folder import find_model
from maskwright.predict.passport import is_exported
from maskwright.predict.save import Answers, AnswersRasters, identity_of, save_answers
from maskwright.progress import SILENT, Progress
from maskwright.tensors import Mask, Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "cleaning.json"
CHOOSE = "`maskwright clean RUN` chooses one"

Flags = Bool[np.ndarray, "H W"]
Sizes = Int64[np.ndarray, "H W"]


class Cleaning(Part):
    """What is done to a mask, in the order of the fields."""

    threshold: Share | None = None
    """Of two classes the second wins above this probability; None leaves the model's own."""
    holes: NonNegativeInt = 0
    """Holes of fewer pixels are closed. A hole is a region of class 0, connected by sides, that does not reach the
    picture's border."""
    smallest: NonNegativeInt = 0
    """Objects of fewer pixels go. An object is a region of a class but 0, connected by sides or corners."""


class KeptCleaning(Part):
    """`cleaning.json` in a model folder."""

    format: Literal[1] = 1
    cleaning: Cleaning
    weights: str
    """Digest of the weights that it was chosen for."""
    split: str
    pictures: NonNegativeInt
    gain: float
    """In dice_image, of pictures that had no part in the choice."""
    ci95: tuple[float, float] | None
    """None where the pictures were too few for one."""
    p: float


def clean(mask_HW: Mask, cleaning: Cleaning) -> Mask:
    """`holes`, then `smallest`. A pixel of what is closed or goes takes the class of the nearest pixel that stays (of
    equally near ones, any, but always the same); where none stays, class 0."""
    closed_HW = without(mask_HW, small(hole_sizes(mask_HW), cleaning.holes)) if cleaning.holes else mask_HW
    if not cleaning.smallest:
        return closed_HW
    return without(closed_HW, small(object_sizes(closed_HW), cleaning.smallest))


def hole_sizes(mask_HW: Mask) -> Sizes:
    """For each pixel of a hole the hole's pixels; 0 elsewhere."""
    regions_HW, count = ndimage.label(mask_HW == 0)
    sizes = np.bincount(regions_HW.ravel(), minlength=count + 1)
    sizes[np.concatenate([[0], regions_HW[[0, -1]].ravel(), regions_HW[:, [0, -1]].ravel()])] = 0
    found: Sizes = sizes[regions_HW]
    return found


def object_sizes(mask_HW: Mask) -> Sizes:
    """For each pixel of an object the object's pixels; 0 elsewhere."""
    found = np.zeros(mask_HW.shape, np.int64)
    for k in np.flatnonzero(np.bincount(mask_HW.ravel())).tolist():
        if k:
            regions = parts(np.equal(mask_HW, k))
            found.ravel()[regions.places] = regions.pixels()[regions.numbers]
    return found


def small(sizes_HW: Sizes, pixels: int) -> Flags:
    """What has a size, and one under `pixels`."""
    return (sizes_HW > 0) & (sizes_HW < pixels)


def without(mask_HW: Mask, gone_HW: Flags) -> Mask:
    """The mask without some of its holes or some of its objects: `nearest_of_rest`.

    Of two classes that is the other one. On a path from a pixel of an object to a pixel of the same class in another
    object, each step of which comes nearer to the end, the first pixel that has left the object is of the other class;
    and so it is with holes, on a path that goes by sides.
    """
    if not gone_HW.any():
        return mask_HW
    return mask_HW ^ gone_HW.view(np.uint8) if mask_HW.max() <= 1 else nearest_of_rest(mask_HW, gone_HW)


def nearest_of_rest(mask_HW: Mask, gone_HW: Flags) -> Mask:
    """Each flagged pixel takes the class of the nearest one without a flag (straight-line distance of centres)."""
    if gone_HW.all():
        return np.zeros_like(mask_HW)
    rows, columns = ndimage.distance_transform_edt(gone_HW, return_distances=False, return_indices=True)
    filled: Mask = mask_HW[rows, columns]
    return filled


def cut(said: Prediction, threshold: float | None) -> Mask:
    """The mask at another threshold; more than two classes have none."""
    if threshold is None or len(said.probabilities) != 2:
        return said.mask
    mask_HW: Mask = (said.probabilities[1] > np.float32(threshold)).astype(np.uint8)
    return mask_HW


@dataclass(frozen=True)
class Cleaned:
    """A predictor whose masks are cleaned. The probabilities are those of the network."""

    predictor: Answers
    cleaning: Cleaning

    @property
    def classes(self) -> ClassMap:
        return self.predictor.classes

    def picture(self, image: np.ndarray | Image | str | Path | Page) -> Picture:
        return self.predictor.picture(image)

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        said = self.predictor(image)
        return replace(said, mask=clean(cut(said, self.cleaning.threshold), self.cleaning))

    @property
    def check(self) -> bool:
        return isinstance(self.predictor, AnswersRasters) and self.predictor.check

    def save_raster(
        self, file: Path, targets: Mapping[Kind, Path], count: bool = False, progress: Progress = SILENT
    ) -> NoReturn:
        """Regions of a raster are not known before all of it is: raises DataError."""
        raise DataError(f"{file} is a raster, and those are not cleaned", "leave out --clean")

    def identity(self) -> str:
        return f"{identity_of(self.predictor)} {self.cleaning.model_dump_json()}"

    save = save_answers


def cleaned(predictor: Answers, name: str) -> Cleaned:
    """The predictor of a run or a model folder with the cleaning that was chosen for it. Raises RunError: none was."""
    if len(split_names(name)) > 1:
        raise RunError(
            f"the average {name} has no cleaning", "one is chosen for a single run: leave out --clean"
        )
    if is_exported(Path(name)):
        raise RunError(
            f"{name} has no cleaning", "one is chosen for a run: predict with that, or leave out --clean"
        )
    return Cleaned(predictor, load_cleaning(find_model(name)).cleaning)


def save_cleaning(model: Path, kept: KeptCleaning) -> None:
    """Write `model/cleaning.json`. Raises RunError."""
    write_text(model / FILE, kept.model_dump_json(indent=2) + "\n")


def load_cleaning(model: Path) -> KeptCleaning:
    """What `maskwright clean` chose for the model in this folder. Raises RunError: nothing, damaged, other weights."""
    path = model / FILE
    if not path.is_file():
        raise RunError(f"{model} has no cleaning", CHOOSE)
    try:
        kept = KeptCleaning.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {str(error).splitlines()[0]}", CHOOSE) from error
    if kept.weights != weights_digest(model):
        raise RunError(f"{path} was chosen for other weights than {model / WEIGHTS}", CHOOSE)
    return kept


def weights_digest(model: Path) -> str:
    """Of `model/model.safetensors`. Raises RunError where it is missing."""
    digest = file_hash(model / WEIGHTS)
    if not digest:
        raise RunError(f"{model / WEIGHTS} cannot be read", "copy the model again")
    return digest
