"""Geometry canary: pictures that ARE their masks, painted, on disk; after the whole pipeline they still are.

From PNG files through the store (every fit) and the augmentation as training runs them, with all geometry and
CutMix on. Whatever moves a picture without its mask, anywhere on the way, parts them. Along borders a band, one
pixel of the network wide, is "ignore" on disk already: it travels with the mask, so that all that is left must agree,
also where a border is hidden behind the edge of the picture or of a pasted box.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from maskwright.config import AugmentConfig, InputConfig, Recipe
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare
from maskwright.fit import Fit
from maskwright.tensors import IGNORE, Batch
from maskwright.training.begin import assemble
from maskwright.training.device import make_accelerator
from maskwright.training.step import load_batch

PALETTES: dict[int, np.ndarray] = {
    1: np.array([[60], [200]], dtype=np.uint8),
    3: 255 * np.eye(3, dtype=np.uint8),
    4: 255 * np.eye(4, dtype=np.uint8),
}
"""Colours whose mixtures of two are never taken for a third."""
SIZES = ((90, 130), (131, 97), (64, 160), (201, 150))
SIDE = (64, 96)
BAND = 9
"""Value of the band on disk."""


def paint_folder(root: Path, channels: int, count: int = 16) -> Path:
    """Masks of thick shapes as PNGs of class ids and BAND, and beside them the same pictures in colour."""
    generator = np.random.default_rng(channels)
    classes = len(PALETTES[channels])
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for index in range(count if split == "train" else 2):
            height, width = SIZES[index % len(SIZES)]
            rows, columns = np.mgrid[:height, :width]
            top, left = generator.uniform(0.35, 0.65) * height, generator.uniform(0.2, 0.3) * width
            mask = (np.hypot(rows - top, columns - left) < 0.18 * min(height, width)).astype(np.uint8)
            mask[height // 3 :, generator.integers(2 * width // 3, 4 * width // 5) :] = classes - 1
            mask[: height // 4, width // 2 :] = min(2, classes - 1)
            picture = PALETTES[channels][mask]
            pixel = 2 * math.ceil(max(height / SIDE[0], width / SIDE[1])) + 1
            mask[ndimage.maximum_filter(mask, pixel) != ndimage.minimum_filter(mask, pixel)] = BAND
            Image.fromarray(mask).save(root / split / "masks" / f"{split}{index}.png")
            Image.fromarray(picture.squeeze()).save(root / split / "images" / f"{split}{index}.png")
    names = [f"class_{k}" for k in range(classes)]
    values = dict(enumerate(names)) | {BAND: "ignore"}
    templates = {kind: f"{{split}}/{kind}/{{id}}.png" for kind in ("images", "masks")}
    described = {"format": "folder", "classes": names, "values": values} | templates
    (root / "dataset.yaml").write_text(yaml.safe_dump(described))
    return root


def disagreement(batch: Batch, palette: np.ndarray) -> tuple[int, int, int]:
    """Pixels whose colour is not their label's; those with a label; all."""
    colours = (palette / 255)[None, :, :, None, None]
    seen = np.square(batch.images.numpy()[:, None] - colours).sum(2).argmin(1)
    truth = batch.target.labels.numpy()
    known = truth != IGNORE
    return int((seen != truth)[known].sum()), int(known.sum()), truth.size


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image_and_mask_agree_after_the_whole_pipeline(
    tmp_path: Path, channels: int, fit: Fit, geometry: AugmentConfig
) -> None:
    dataset = open_dataset(paint_folder(tmp_path / "painted", channels))
    recipe = Recipe(input=InputConfig.model_validate({"size": SIDE, "fit": fit, "channels": channels}))
    recipe = recipe.model_copy(update={"augment": geometry})
    store = prepare(dataset, recipe.input)
    machinery, _ = assemble(recipe, dataset, store, make_accelerator("cpu", "fp32"))
    rows = store.rows("train")
    for epoch in range(20):
        batch = load_batch(machinery, rows, np.zeros_like(rows), epoch, 1.0)
        assert batch.images.shape == (len(rows), channels, *SIDE)
        wrong, compared, pixels = disagreement(batch, PALETTES[channels])
        assert wrong == 0
        assert compared > 0.3 * pixels
