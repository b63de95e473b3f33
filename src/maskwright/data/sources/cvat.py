"""CVAT, "Segmentation mask 1.1": VOC's folders, masks painted in the colours of `labelmap.txt`.

`labelmap.txt` (`label:r,g,b::` per line), `SegmentationClass/ID.png`, `ImageSets/Segmentation/default.txt` (or one list
per subset). Pictures lie in `JPEGImages/` when the export was made with them; otherwise put them there, or
let `images` in dataset.yaml say where they are.
"""

from __future__ import annotations

from pathlib import Path

from maskwright.data.colour_table import classes_of, read_table
from maskwright.data.sources import folder, voc
from maskwright.data.sources.common import DataConfig, filled

TABLE = "labelmap.txt"

read = folder.read


def recognise(root: Path) -> bool:
    return (root / TABLE).is_file() and (root / "SegmentationClass").is_dir()


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError for a table that cannot be read."""
    names, values = classes_of(read_table(root / TABLE))
    lists = {name: f"{voc.LISTS}/{file}" for name, file in voc.split_lists(root).items()}
    images = next((name for name in ("JPEGImages", "images") if (root / name).is_dir()), "JPEGImages")
    return filled(
        config,
        images=f"{images}/{{id}}.*",
        masks="SegmentationClass/{id}.png",
        classes=names,
        values=values,
        splits=lists or None,
    )
