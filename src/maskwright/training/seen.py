"""What a network saw of the world: kept with it, because it decides how larger pictures have to be shown."""

from __future__ import annotations

from statistics import median_low

from maskwright.data.dataset import Dataset
from maskwright.data.levels import told_window
from maskwright.data.part import Part
from maskwright.data.places import headers
from maskwright.predict.model_folder import Seen
from maskwright.progress import SILENT


def seen_of(dataset: Dataset) -> Seen | None:
    """Of the train split; None where no picture of it can be read."""
    items = dataset.split("train") or dataset.items
    sizes = [header[:2] for header in headers([item.image for item in items], SILENT) if header is not None]
    if not sizes:
        return None
    parts = [item.image for item in items if isinstance(item.image, Part)]
    bands, *window = next((part.told for part in parts if part.form == "raster"), ("",))
    window = window or next((list(part.told) for part in parts if part.form == "page"), [])
    return Seen(
        size=(median_low(height for height, _ in sizes), median_low(width for _, width in sizes)),
        tiles=2 * sum(item.piece is not None for item in items) > len(items),
        bands=tuple(int(band) for band in bands.split(",") if band),
        window=told_window(tuple(window)),
    )
