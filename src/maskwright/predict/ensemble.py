"""Several runs that answer as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from maskwright.data.part import Part
from maskwright.errors import ConfigError, RunError
from maskwright.predict.exported import Exported, find_exported
from maskwright.predict.model_folder import ModelSpec
from maskwright.predict.postprocess import decide
from maskwright.predict.predictor import Predictor
from maskwright.predict.reach import Context, widest
from maskwright.predict.save import save_answers
from maskwright.tensors import Picture, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image


class Ensemble:
    """The mean of the members' probabilities (Lakshminarayanan et al. 2017, equation 3). Called like a Predictor.

    Each member looks at the picture through its own input side, so sizes, fits, channels and networks may differ; the
    classes may not. The answers are added up one after another: memory holds those of one member and their sum. Of
    two classes the second wins above the mean of the members' thresholds. An average is less sure than its members,
    whose temperatures would push it too far: it has none of its own (1).
    """

    def __init__(self, members: Mapping[str, Predictor]) -> None:
        """`members` by name, at least one. Raises RunError, naming two that know different classes."""
        (first_name, first), *others = members.items()
        for name, member in others:
            if member.classes.names != first.classes.names:
                raise RunError(
                    f"{first_name} knows the classes {', '.join(first.classes.names)} and "
                    f"{name} {', '.join(member.classes.names)}",
                    "average only runs that know the same classes in the same order",
                )
        self.members = tuple(members.values())
        self.classes = first.classes
        self.threshold = fmean(member.spec.threshold for member in self.members)
        self.temperature = 1.0
        # Grey and RGB come out of more channels as they come out of the file, so the widest member decides.
        self._widest = max(self.members, key=lambda member: member.channels)
        self.channels = self._widest.channels

    @classmethod
    def load(cls, names: Sequence[str | Path], device: str = "auto", tta: str | None = None) -> Ensemble:
        """From run folders, model folders or names of runs. Raises RunError or ConfigError (device, tta)."""
        return cls({str(name): Predictor.load(name, device, tta) for name in names})

    def __call__(self, image: np.ndarray | Image | str | Path) -> Prediction:
        """The mask of one picture, at its own size. Raises DataError for what is no picture."""
        picture = self.picture(image)
        answers = (member(picture).probabilities for member in self.members)
        shares_KHW = reduce(np.add, answers) / np.float32(len(self.members))
        mask_1HW = decide(torch.from_numpy(shares_KHW)[None], self.threshold)
        return Prediction(mask=mask_1HW[0].numpy(), probabilities=shares_KHW)

    @property
    def spec(self) -> ModelSpec:
        """Of the member that decides how large pictures are cut: the first that resizes what it sees, or the first."""
        resizing = (member.spec for member in self.members if member.spec.input.fit != "crop")
        return next(resizing, self.members[0].spec)

    @cached_property
    def context(self) -> Context:
        """The widest of the members'."""
        return widest(member.context for member in self.members)

    def picture(self, image: np.ndarray | Image | str | Path | Part) -> Picture:
        """Decode or convert to uint8 HWC with the channels of the widest member. Raises DataError."""
        return self._widest.picture(image)

    def identity(self) -> str:
        return " + ".join(member.identity() for member in self.members)

    save = save_answers


def load_predictor(
    names: str, device: str = "auto", tta: str | None = None, threads: int | None = None
) -> Predictor | Ensemble | Exported:
    """The predictor of `RUN_OR_MODEL`, the ensemble of `RUN1+RUN2`, or an exported file, which runs on `threads`.

    Raises RunError or ConfigError.
    """
    if (file := find_exported(names)) is not None:
        exported = Exported.load(file, threads)
        if device not in ("auto", "cpu"):
            raise ConfigError(f"{file} runs on the CPU here, not on {device}", "predict with the run itself")
        if tta is not None and tta != exported.passport.tta:
            raise ConfigError(
                f"the looks of {file} are inside it ({exported.passport.tta}), --tta {tta} cannot change them",
                f"leave it out, or `maskwright export RUN --tta {tta}`",
            )
        return exported
    found = split_names(names)
    return Predictor.load(names, device, tta) if len(found) == 1 else Ensemble.load(found, device, tta)


def split_names(names: str, runs: Path = Path("runs")) -> tuple[str, ...]:
    """`a+b` -> a and b; a run or model folder whose own name has a plus in it is one. Raises RunError."""
    known = ("recipe.yaml", "config.json", "model/config.json")
    if any((folder / file).is_file() for folder in (Path(names), runs / names) for file in known):
        return (names,)
    found = tuple(names.split("+"))
    if not all(found) or len({*found}) < len(found):
        raise RunError(f"{names!r} leaves a name out or says one twice", "write RUN1+RUN2")
    return found
