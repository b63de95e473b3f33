"""What the tables of a whole call need of one picture, as a line of JSON can keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskwright.predict.objects import ClassPixels, MaskObject, class_pixels, find_objects
from maskwright.tensors import Prediction


@dataclass(frozen=True)
class Facts:
    """Of one picture."""

    size: tuple[int, int]
    """Height, width."""
    pixels: Sequence[ClassPixels]
    """Of every class."""
    objects: Sequence[MaskObject]
    """Of all classes but 0."""

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        return cls(
            tuple(values["size"]),
            [ClassPixels(**entry) for entry in values["pixels"]],
            [
                MaskObject(**{**entry, "box": tuple(entry["box"]), "centre": tuple(entry["centre"])})
                for entry in values["objects"]
            ],
        )


def facts_of(said: Prediction) -> Facts:
    height, width = said.mask.shape
    objects = [each for each in find_objects(said) if each.class_id]
    return Facts((height, width), class_pixels(said), objects)
