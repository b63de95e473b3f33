"""Oxford-IIIT Pet (Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012).

`annotations/trimaps/NAME.png`: 1 = pet, 2 = background, 3 = border. Three readings of the border are in use:
as pet (here, unless `values` says otherwise), ignored ({1: pet, 2: background, 3: ignore}), and as the
foreground itself ({3: pet, 1: background, 2: background}).
"""

from __future__ import annotations

from pathlib import Path

from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, ValidationConfig, filled

CLASSES = ("background", "pet")
VALUES = {1: "pet", 3: "pet", 2: "background"}

read = folder.read


def recognise(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "annotations" / "trimaps").is_dir()


def complete(root: Path, config: DataConfig) -> DataConfig:
    """The official lists; a tenth of trainval, drawn with seed 0, validates."""
    return filled(
        config,
        images="images/{id}.jpg",
        masks="annotations/trimaps/{id}.png",
        classes=CLASSES,
        values=VALUES,
        splits={"trainval": "annotations/trainval.txt", "test": "annotations/test.txt"},
        validation=ValidationConfig(from_="trainval"),
    )
