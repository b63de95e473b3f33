"""An exported file as a predictor: what a Predictor says, said by a runtime without torch's network."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import ClassMap
from maskwright.errors import RunError
from maskwright.predict.backends import Backend, Pictures, open_backend
from maskwright.predict.model_folder import build_from_spec
from maskwright.predict.passport import SUFFIXES, Passport, read_passport
from maskwright.predict.predictor import context_of, to_picture
from maskwright.predict.reach import Context
from maskwright.predict.save import save_answers
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


class Exported:
    """A file of `maskwright export`. Called like a Predictor; pictures go through alone, at their own size."""

    def __init__(self, passport: Passport, backend: Backend) -> None:
        self.passport, self.backend, self.spec = passport, backend, passport.spec
        self.classes = ClassMap(self.spec.classes, self.spec.colours)
        self.channels = self.spec.channels
        self.temperature = self.spec.temperature
        self.threshold = self.spec.threshold

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> Exported:
        """An .onnx file or an OpenVINO .xml with its .bin beside it. `threads`: all cores where None.

        Raises RunError: damaged, of another tool, or its runtime is not installed.
        """
        passport = read_passport(Path(path))
        return cls(passport, open_backend(Path(path), passport.precision, threads))

    @cached_property
    def context(self) -> Context:
        """That of the model: of a network of the same structure, since weights do not matter to it."""
        return context_of(self.spec, self.passport.tta, build_from_spec(self.spec))

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """The mask of one picture, as `Predictor.__call__`. Raises DataError, or RunError where the runtime fails."""
        mask, shares = self.ask(self.picture(image)[None], "mask", "probabilities")
        return Prediction(mask[0], shares[0], self.temperature)

    def ask(self, images: Pictures, *outputs: str) -> list[NDArray[Any]]:
        """Some of `backends.OUTPUTS` for a batch of pictures of one size. Raises RunError."""
        return self.backend(np.ascontiguousarray(images), outputs)

    def picture(self, image: np.ndarray | Image | str | Path) -> Picture:
        """As `Predictor.picture`. Raises DataError."""
        return to_picture(image, self.channels)

    def identity(self) -> str:
        """A digest of all that the file says of itself, that of its content included."""
        return f"exported {hashlib.sha256(self.passport.to_json().encode()).hexdigest()[:16]}"

    save = save_answers


def find_exported(name: str | Path) -> Path | None:
    """The exported file that a user means, if it is one: by its ending. Raises RunError where it is not there."""
    path = Path(name)
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        return None
    if not path.is_file():
        raise RunError(f"there is no file {path}", "`maskwright export RUN` writes one")
    return path
