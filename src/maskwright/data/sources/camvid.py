"""CamVid (Brostow, Fauqueur, Cipolla: Semantic object classes in video, 2009) in the split of SegNet.

`train`, `val`, `test` hold frames, `trainannot`, `valannot`, `testannot` their labels: 11 classes, 11 = void.
Frames of one drive resemble each other: the drive, the part of the name before the underscore, is the group.
"""

from __future__ import annotations

from pathlib import Path

from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, filled

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
VALUES = dict(enumerate((*CLASSES, "ignore")))
COLOURS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
"""As the authors and SegNet paint them."""

DRIVES = ("0001TP", "0006R0", "0016E5", "Seq05VD")


def recognise(root: Path) -> bool:
    """The folders alone could be anybody's: the names of the drives decide."""
    labels = root / "trainannot"
    return (
        (root / "train").is_dir()
        and labels.is_dir()
        and any(path.name.startswith(DRIVES) for path in labels.iterdir())
    )


def complete(root: Path, config: DataConfig) -> DataConfig:
    return filled(
        config,
        images="{split}/{id}.*",
        masks="{split}annot/{id}.png",
        classes=CLASSES,
        values=VALUES,
        splits={"train": "train", "validation": "val", "test": "test"},
        groups="{id:before _}",
    )


read = folder.read
