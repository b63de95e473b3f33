"""The same data as COCO, VOC, GeoTIFF and npz, each written by another library: training gives the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.features
import torch
from PIL import Image
from safetensors.torch import load_file

from maskwright.config import make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.runfolder import RunFolder
from maskwright.training.loop import train

SMALL = {
    "model.width": 4,
    "model.depth": 2,
    "input.size": 32,
    "train.batch": 8,
    "train.epochs": 4,
    "train.precision": "fp32",
    "augment.rotate": 20,
    "augment.noise": 0.1,
}
Pairs = list[tuple[str, str, np.ndarray, np.ndarray]]
"""(split, id, picture, mask)."""


def read(discs: Path) -> Pairs:
    found: Pairs = []
    for split in ("train", "val"):
        for file in sorted((discs / split / "images").glob("*.png")):
            mask = np.array(Image.open(discs / split / "masks" / file.name))
            found.append((split, file.stem, np.array(Image.open(file)), mask))
    return found


def as_coco(root: Path, pairs: Pairs) -> None:
    """Outlines along the pixels' edges."""
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for key, (_, name, picture, mask) in enumerate(pair for pair in pairs if pair[0] == split):
            Image.fromarray(picture).save(root / split / f"{name}.png")
            images.append({"id": key, "file_name": f"{name}.png", "height": 48, "width": 48})
            for shape, value in rasterio.features.shapes(mask, mask=mask > 0, connectivity=4):
                (ring,) = shape["coordinates"]
                outline = [number for corner in ring[:-1] for number in corner]
                one = {"image_id": key, "category_id": int(value), "segmentation": [outline]}
                annotations.append({"id": len(annotations), **one})
        categories = [{"id": 1, "name": "disc"}]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(whole))


def as_voc(root: Path, pairs: Pairs) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "class_names.txt").write_text("background\ndisc\n")
    for split, name, picture, mask in pairs:
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.png")
        painted = Image.fromarray(mask)
        painted.putpalette([0, 0, 0, 128, 0, 0])
        painted.save(root / "SegmentationClass" / f"{name}.png")
        with open(root / "ImageSets/Segmentation" / f"{split}.txt", "a") as lines:
            lines.write(f"{name}\n")


def as_geotiff(root: Path, pairs: Pairs) -> None:
    for split, name, picture, mask in pairs:
        for kind, bands in (("images", picture.transpose(2, 0, 1)), ("masks", mask[None])):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            options = {"driver": "GTiff", "height": 48, "width": 48, "count": len(bands), "dtype": "uint8"}
            place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}
            with rasterio.open(root / split / kind / f"{name}.tif", "w", **options, **place) as raster:
                raster.write(bands)
    (root / "dataset.yaml").write_text("format: geotiff\nclasses: [background, disc]\n")


def as_npz(root: Path, pairs: Pairs) -> None:
    root.mkdir()
    for split in ("train", "val"):
        part = [pair for pair in pairs if pair[0] == split]
        np.savez(
            root / f"{split}.npz",
            images=np.stack([picture for _, _, picture, _ in part]),
            masks=np.stack([mask for *_, mask in part]),
            ids=np.array([name for _, name, *_ in part]),
        )
    (root / "dataset.yaml").write_text("format: npz\nclasses: [background, disc]\n")


@pytest.mark.slow
@pytest.mark.ci
def test_the_same_weights_after_20_steps(discs: Path, tmp_path: Path) -> None:
    pairs = read(discs)
    found: dict[str, dict[str, torch.Tensor]] = {}
    losses: dict[str, list[float]] = {}
    for name, write in {"coco": as_coco, "voc": as_voc, "geotiff": as_geotiff, "npz": as_npz}.items():
        write(tmp_path / name, pairs)
        dataset = open_dataset(tmp_path / name)
        assert (dataset.format, dataset.classes.names) == (name, ("background", "disc"))
        (tmp_path / "runs" / name).mkdir(parents=True)
        run = RunFolder(tmp_path / "runs" / name)
        trained = train(make_recipe(SMALL), dataset, run, device="cpu")
        assert trained.steps == 20
        found[name] = load_file(run.model / "model.safetensors")
        losses[name] = [row["train_loss"] for row in run.read_metrics()]
    for name, weights in found.items():
        assert losses[name] == losses["npz"]
        for key, value in weights.items():
            assert torch.equal(value, found["npz"][key]), (name, key)
