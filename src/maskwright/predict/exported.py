"""An exported file as a predictor: what a Predictor says, said by a runtime without torch's network."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.classes import ClassMap
from maskwright.data.part import Part
from maskwright.errors import RunError, UserError
from maskwright.predict.backends import OUTPUTS, Backend, Pictures, open_backend
from maskwright.predict.model_folder import WithoutMemory, build_from_spec
from maskwright.predict.passport import Passport, digest_of, files_of, is_exported, read_passport
from maskwright.predict.predictor import context_of, to_picture
from maskwright.predict.reach import Context
from maskwright.predict.save import save_answers
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

UNUSED = 4
"""At most so many times as many weights has a network as its file has bytes: int8 takes a byte for each, and what of an
encoder or of training leads to no answer is not in the file."""


class Exported:
    """A file of `maskwright export`. Called like a Predictor; pictures go through alone, at their own size.

    It may come from a stranger: what its graph answers is checked before anyone relies on it.
    """

    def __init__(self, path: Path, passport: Passport, backend: Backend) -> None:
        self.path, self.passport, self.backend, self.spec = path, passport, backend, passport.spec
        self.classes = ClassMap(self.spec.classes, self.spec.colours)
        self.channels = self.spec.channels
        self.temperature = self.spec.temperature
        self.threshold = self.spec.threshold

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> Exported:
        """An .onnx file or an OpenVINO .xml with its .bin beside it. `threads`: all cores where None.

        Raises RunError: damaged, of another tool, not what was proven, or its runtime is not installed.
        """
        path = Path(path)
        passport = read_passport(path)
        if passport.digest and passport.digest != digest_of(path):
            raise RunError(f"{path} changed after it was proven", "export it again")
        return cls(path, passport, open_backend(path, passport.precision, threads))

    @cached_property
    def context(self) -> Context:
        """That of the model: of a network of the same structure, since weights do not matter to it. Raises RunError."""
        self._check_size()
        return context_of(self.spec, self.passport.tta, build_from_spec(self.spec))

    def _check_size(self) -> None:
        """Raises RunError where the network that a stranger's file speaks of cannot be the one that is in it."""
        try:
            with WithoutMemory():
                shadow = build_from_spec(self.spec)
        except UserError as error:
            raise RunError(f"the metadata of {self.path}: {error.problem}", error.hint) from error
        weights = sum(tensor.numel() for tensor in shadow.state_dict().values())
        size = sum(file.stat().st_size for file in files_of(self.path))
        if weights > UNUSED * size:
            raise RunError(
                f"{self.path} speaks of a network of {weights:,} weights, and has {size:,} bytes",
                "this is not a file of ours",
            )

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """The mask of one picture, as `Predictor.__call__`. Raises DataError, or RunError where the runtime fails."""
        mask, shares = self.ask(self.picture(image)[None], "mask", "probabilities")
        return Prediction(mask[0], shares[0], self.temperature)

    def ask(self, images: Pictures, *outputs: str) -> list[NDArray[Any]]:
        """Some of `backends.OUTPUTS` for a batch of pictures of one size: the mask is uint8 N H W, all else float32
        N K H W, the logits of two classes with one channel or two. Raises RunError where the file answers otherwise."""
        found = self.backend(np.ascontiguousarray(images), outputs)
        for name, answer in zip(outputs, found, strict=True):
            self._check_answer(name, answer, images.shape[:3])
        return found

    def _check_answer(self, name: str, answer: Any, shape: tuple[int, ...]) -> None:
        """`shape`: N H W of the pictures. Raises RunError."""
        number, height, width = shape
        classes = len(self.classes)
        if name == OUTPUTS[0]:
            kind, allowed = "uint8", {shape}
        else:
            channels = {1, classes} if name == "logits" and classes == 2 else {classes}
            kind, allowed = "float32", {(number, each, height, width) for each in channels}
        if not isinstance(answer, np.ndarray) or answer.dtype != kind or answer.shape not in allowed:
            told = f"{answer.dtype} of {answer.shape}" if isinstance(answer, np.ndarray) else type(answer)
            raise RunError(
                f"{self.path} answers {name} as {told} to pictures of N H W = {shape}", "export it again"
            )
        if name == OUTPUTS[0] and answer.max() >= classes:
            raise RunError(
                f"{self.path} says class {answer.max()}, and has {classes} classes", "export it again"
            )
        if name in OUTPUTS[1:3] and not np.isfinite(answer).all():
            raise RunError(f"{self.path} answers {name} that are no numbers", "export it again")

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture:
        """As `Predictor.picture`. Raises DataError."""
        return to_picture(image, self.spec)

    def identity(self) -> str:
        """A digest of all that the file says of itself, that of its content included."""
        return f"exported {hashlib.sha256(self.passport.to_json().encode()).hexdigest()[:16]}"

    save = save_answers


def find_exported(name: str | Path) -> Path | None:
    """The exported file that a user means, if it is one: by its ending. Raises RunError where it is not there."""
    path = Path(name)
    if not is_exported(path):
        return None
    if not path.is_file():
        raise RunError(f"there is no file {path}", "`maskwright export RUN` writes one")
    return path
