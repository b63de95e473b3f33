"""Each page of a TIFF of several is a picture, shown to the network as its pages of training were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from maskwright.config import InputConfig, ModelConfig
from maskwright.data.dataset import open_dataset
from maskwright.predict.model_folder import ModelSpec, Seen, build_from_spec
from maskwright.predict.predictor import Predictor
from maskwright.predict.tiled import Tiled
from maskwright.training.seen import seen_of

RNG = np.random.default_rng(5)
WINDOW = (100.0, 4000.0)


def predictor(seen: Seen | None = None) -> Predictor:
    spec = ModelSpec(
        model=ModelConfig(name="unet", width=4, depth=2),
        input=InputConfig(size=(32, 48), channels=1),
        classes=("ground", "cell"),
        colours=((0, 0, 0), (230, 159, 0)),
        mean=(0.5,),
        deviation=(0.2,),
        seen=seen,
    )
    torch.manual_seed(3)
    return Predictor(spec, build_from_spec(spec), torch.device("cpu"))


def mask(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.array(image)


@pytest.fixture
def pages() -> np.ndarray:
    return RNG.integers(0, 4096, (3, 30, 40), dtype=np.uint16)


def test_a_page_is_a_picture_in_the_grey_levels_of_training(tmp_path: Path, pages: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "cell.tif", pages, photometric="minisblack")
    for seen, shown in (
        (None, (pages.astype(np.int64) + 128) // 257),
        (Seen(size=(30, 40), window=WINDOW), np.round(255 * np.clip((pages - 100.0) / 3900, 0, 1))),
    ):
        model = predictor(seen)
        out = tmp_path / f"out-{seen is None}"
        saved = Tiled(model).save(out, tmp_path, save=("mask", "statistics"))
        names = [f"cell@000{number}" for number in range(3)]
        assert [each.outputs for each in saved] == [(out / f"{name}.png",) for name in names]
        for name, page in zip(names, shown, strict=True):
            np.testing.assert_array_equal(mask(out / f"{name}.png"), model(page.astype(np.uint8)).mask)
        rows = (out / "pixels.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows[1::2]] == [f"{name}.tif" for name in names]


def test_the_window_of_training_is_kept_with_the_network(tmp_path: Path, pages: np.ndarray) -> None:
    for kind, numbers in (("images", pages), ("masks", np.ones(pages.shape, np.uint8))):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "a.tif", numbers, photometric="minisblack")
    (tmp_path / "dataset.yaml").write_text(
        f"format: tiff-stack\nwindow: {list(WINDOW)}\nclasses: [a, b]\nvalidation: {{fraction: 0}}\n"
    )
    dataset = open_dataset(tmp_path)
    assert seen_of(dataset) == Seen(size=(30, 40), window=WINDOW)
    # What training is shown is what prediction is shown.
    model = predictor(seen_of(dataset))
    for item in dataset.items:
        np.testing.assert_array_equal(model.picture(item.image), dataset.image(item, 1))  # type: ignore[arg-type]


def test_only_what_is_new_is_done_and_a_changed_file_anew(tmp_path: Path, pages: np.ndarray) -> None:
    model, file, out = predictor(), tmp_path / "cell.tif", tmp_path / "out"
    tifffile.imwrite(file, pages, photometric="minisblack")
    model.save(out, file)
    before = {name: (out / name).stat().st_mtime_ns for name in ("cell@0000.png", "cell@0002.png")}
    model.save(out, file)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    tifffile.imwrite(file, np.concatenate([pages, pages[:1]])[::-1], photometric="minisblack")
    assert len(model.save(out, file)) == 4
    np.testing.assert_array_equal(mask(out / "cell@0001.png"), model(_levels(pages[2])).mask)


def test_a_thumbnail_is_no_page(tmp_path: Path, pages: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        writer.write(pages[0], photometric="minisblack")
        writer.write(pages[0][::2, ::2], photometric="minisblack", subfiletype=1)
    (saved,) = predictor().save(tmp_path / "out", tmp_path / "slide.tif")
    assert saved.outputs == (tmp_path / "out/slide.png",)


def test_two_files_that_would_give_the_same_mask(tmp_path: Path, pages: np.ndarray) -> None:
    """A page and a picture of its name are told apart by their endings, as other pictures are."""
    tifffile.imwrite(tmp_path / "cell.tif", pages, photometric="minisblack")
    Image.fromarray(_levels(pages[0])).save(tmp_path / "cell@0001.png")
    saved = predictor().save(tmp_path / "out", tmp_path)
    names = {output.name for each in saved for output in each.outputs}
    assert names == {"cell@0000.png", "cell@0001.tif.png", "cell@0002.png", "cell@0001.png.png"}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF|Possibly corrupt|Truncated File")  # Pillow's
def test_a_broken_stack_is_told_and_the_rest_done(tmp_path: Path, pages: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "b.tif", pages, photometric="minisblack")
    content = (tmp_path / "b.tif").read_bytes()
    Image.fromarray(_levels(pages[0])).save(tmp_path / "c.png")
    listed = len(content) - 150  # where all pages but the first are
    for cut in (1000, listed, listed + 90):
        (tmp_path / "b.tif").write_bytes(content[:cut])
        stack, picture = predictor().save(tmp_path / f"out{cut}", tmp_path)
        assert "b.tif cannot be" in stack.error
        assert not picture.error


def _levels(page: np.ndarray) -> np.ndarray:
    return ((page.astype(np.int64) + 128) // 257).astype(np.uint8)
