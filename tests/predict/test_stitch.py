"""Tiles put together: the whole for whoever looks no further than half an overlap, and scores of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import maximum_filter

import maskwright as mw
from maskwright.calibrate import calibrate
from maskwright.data.classes import ClassMap, default_palette
from maskwright.data.dataset import Dataset, Item, open_dataset
from maskwright.errors import DataError
from maskwright.evaluation import evaluate
from maskwright.predict.stitch import answer
from maskwright.tensors import IGNORE, Mask, Picture, Prediction

CLASSES = ("ground", "field", "house")
WHOLE = "block: 4096\n"
TILED = "tile: 24\noverlap: 8\nblock: 4096\n"


def looked(grey: np.ndarray) -> Prediction:
    """Three classes by thirds of a grey picture, and how sure it is of each."""
    mask = np.minimum(grey // 85, 2).astype(np.uint8)
    shares = 0.1 + 0.7 * np.moveaxis(np.eye(3, dtype=np.float32)[mask], 2, 0)
    return Prediction(mask, shares, 1.5)


@dataclass(frozen=True)
class Local:
    """A predictor that looks `reach` pixels around, and notes the sizes that it was shown."""

    reach: int = 0
    classes: ClassMap = field(
        default_factory=lambda: ClassMap(CLASSES, default_palette(3), {id: id for id in range(3)})
    )
    channels: int = 3
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, image: Picture, /) -> Prediction:
        self.seen.append(image.shape)
        return looked(maximum_filter(image[..., 0] // 2, 2 * self.reach + 1))


def make_fields(root: Path, count: int = 4, size: tuple[int, int] = (90, 70)) -> Path:
    """Rasters whose first band hints at fields and houses; some labels are unknown. All in the test split."""
    random = np.random.default_rng(0)
    options = {"driver": "GTiff", "height": size[0], "width": size[1], "dtype": "uint8", "crs": "EPSG:32632"}
    options |= {"transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000), "compress": "deflate"}
    for number in range(count):
        coarse = random.choice(3, (size[0] // 12 + 1, size[1] // 12 + 1), p=[0.6, 0.3, 0.1])
        labels = coarse.repeat(12, 0).repeat(12, 1)[: size[0], : size[1]].astype(np.uint8)
        bands = np.clip(labels * 80 + random.normal(40, 25, (3, *size)), 0, 255).astype(np.uint8)
        labels[random.random(size) < 0.05] = IGNORE
        for kind, array in (("images", bands), ("masks", labels[None])):
            (root / kind).mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                root / kind / f"field{number}.tif", "w", count=len(array), **options
            ) as raster:
                raster.write(array)
    return root


def opened(root: Path, keys: str) -> Dataset:
    names = [file.stem for file in sorted((root / "images").iterdir())]
    file = root / f"{len(keys)}.yaml"
    file.write_text(
        f"format: geotiff\nclasses: [{', '.join(CLASSES)}]\n{keys}"
        + (
            ""
            if "validation" in keys
            else f"validation: {{fraction: 0}}\nsplits: {{test: [{', '.join(names)}]}}\n"
        )
    )
    return open_dataset(file)


@pytest.mark.parametrize(("reach", "equal"), [(0, True), (1, True), (4, True), (6, False)])
def test_stitched_is_the_whole_for_whoever_sees_no_further_than_half_the_overlap(
    tmp_path: Path, reach: int, equal: bool
) -> None:
    root, predictor, differing = make_fields(tmp_path), Local(reach), 0
    tiled, whole = opened(root, TILED), opened(root, WHOLE)
    for item, plain in zip(tiled.scored("test"), whole.scored("test"), strict=True):
        assert (item.id, item.group) == (plain.id, plain.group)
        assert len(item.tiles) == 6 * 4
        assert not plain.tiles
        picture = tiled.image(item, 3)
        np.testing.assert_array_equal(picture, whole.image(plain, 3))
        np.testing.assert_array_equal(tiled.mask(item), whole.mask(plain))
        stitched, direct = answer(predictor, item, picture), predictor(picture)
        differing += (stitched.mask != direct.mask).sum() + (
            stitched.probabilities != direct.probabilities
        ).sum()
        assert (stitched.temperature, str(stitched.probabilities.dtype)) == (1.5, "float32")
    assert (int(differing) == 0) is equal
    assert set(predictor.seen) == {(90, 70, 3), (24, 24, 3)}


def test_a_tiled_data_set_is_scored_as_the_same_one_untiled(tmp_path: Path) -> None:
    root = make_fields(tmp_path)
    tiled, whole = (evaluate(Local(), opened(root, keys)) for keys in (TILED, WHOLE))
    assert tiled.ids == whole.ids == ("field0", "field1", "field2", "field3")
    assert tiled.per_image == whole.per_image
    assert repr(tiled.summary()) == repr(whole.summary())  # NaN is not equal to itself
    for entry in fields(tiled.tallies):
        np.testing.assert_array_equal(getattr(tiled.tallies, entry.name), getattr(whole.tallies, entry.name))
    np.testing.assert_array_equal(tiled.confusion_KK, whole.confusion_KK)
    assert repr(tiled.objects) == repr(whole.objects)


def test_blocks_are_the_rows_of_the_scores(tmp_path: Path) -> None:
    root = make_fields(tmp_path / "data", 1)
    found = evaluate(Local(), opened(root, "tile: 16\noverlap: 4\nblock: 50\n"))
    found.save(tmp_path / "scores")
    names = [f"field0@{top}_{left}" for top in (0, 45) for left in (0, 35)]
    assert list(found.ids) == list(found.groups) == names
    said = (tmp_path / "scores/per_image.csv").read_text().splitlines()
    assert list(dict.fromkeys(line.partition(",")[0] for line in said[1:])) == names
    whole = evaluate(Local(), opened(root, WHOLE))
    np.testing.assert_array_equal(found.confusion_KK, whole.confusion_KK)


def test_what_no_tile_answers_for_counts_nowhere(tmp_path: Path) -> None:
    """A tile left out, or of another split, is a hole: not a place where class 0 was found."""
    root = make_fields(tmp_path, 1, (32, 48))
    keys = "tile: 16\noverlap: 0\nblock: 64\n"
    full, holed = (opened(root, keys + more) for more in ("", 'exclude: ["field0@0_16", "field0@16_32"]\n'))
    (item,) = holed.scored("test")
    assert len(item.tiles) == 4
    said = answer(Local(), item, holed.image(item, 3))
    assert (said.probabilities[:, :16, 16:32].T == (1, 0, 0)).all()
    known = holed.mask(item) != IGNORE
    assert not known[:16, 16:32].any()
    (whole,) = full.scored("test")
    by_hand = np.zeros((3, 3), int)
    direct = Local()(full.image(whole, 3)).mask
    np.add.at(by_hand, (full.mask(whole)[known], direct[known]), 1)
    np.testing.assert_array_equal(evaluate(Local(), holed).confusion_KK, by_hand)


def test_a_tile_predicted_at_another_size_is_told(tmp_path: Path) -> None:
    dataset = opened(make_fields(tmp_path, 1), TILED)
    (item,) = dataset.scored("test")

    def halved(image: Picture) -> Prediction:
        return looked(image[::2, ::2, 0])

    with pytest.raises(DataError, match="field0: the prediction of a tile of 24 x 24 is 12 x 12"):
        answer(halved, item, dataset.image(item, 3))


def test_the_temperature_is_fitted_on_cores(tmp_path: Path) -> None:
    """A predictor that is wrong outside of the cores of its tiles is as well calibrated as one that never is."""
    dataset = opened(make_fields(tmp_path, 3), "tile: 24\noverlap: 12\nblock: 4096\n")
    plain = calibrate(Local(), dataset, split="test")
    cores = [item.piece for item in dataset.split("test") if item.piece]

    def spoilt() -> Callable[[Picture], Prediction]:
        turn = iter(cores)

        def predict(image: Picture) -> Prediction:
            piece, said = next(turn), looked(image[..., 0] // 2)
            shares = np.roll(said.probabilities, 1, axis=0)
            inner = piece.core.within(piece.window).slices
            shares[:, *inner] = said.probabilities[:, *inner]
            return Prediction(said.mask, shares)

        return predict

    @dataclass(frozen=True)
    class Spoilt(Local):
        inner: Callable[[Picture], Prediction] = field(default_factory=spoilt)

        def __call__(self, image: Picture, /) -> Prediction:
            return self.inner(image)

    assert len(cores) <= 128, "calibration looks at all of them, in order"
    assert calibrate(Spoilt(), dataset, split="test") == plain


TINY = {
    "model.width": 4,
    "model.depth": 2,
    "input.size": 24,
    "train.epochs": 2,
    "train.precision": "fp32",
    "train.foreground": 0.95,
}


@pytest.mark.slow
@pytest.mark.ci
def test_from_a_raster_to_scores_of_its_blocks(tmp_path: Path) -> None:
    """Train, evaluate, and one block again by hand: tiles read by rasterio, predicted one by one, cores compared."""
    root = make_fields(tmp_path / "data", 1, (150, 130))
    (root / "dataset.yaml").write_text(
        f"format: geotiff\nclasses: [{', '.join(CLASSES)}]\ntile: 24\noverlap: 6\nblock: 50\n"
        "validation: {fraction: 0.3}\n"
    )
    run = mw.train("unet", root, TINY, "tiled", runs=tmp_path / "runs")
    blocks = [f"field0@{top}_{left}" for top in (0, 50, 100) for left in (0, 43, 87)]
    scores = run.scores("validation")
    assert set(scores.ids) < set(blocks)
    assert len(scores.ids) == 3
    lines = (run.path / "scores/validation/per_image.csv").read_text().splitlines()[1:]
    assert {line.partition(",")[0] for line in lines} == set(scores.ids)
    assert {file.name for file in (run.path / "scores/validation/gallery").iterdir()} > {
        "gallery.json",
        "00-truth.jpg",
    }
    assert (run.path / "predictions.png").is_file()
    assert run.evaluate("train").n_images == 6
    assert run.verify(steps=4).verdict == "exact"

    predictor, counted = run.predictor(), np.zeros((3, 3), int)
    with (
        rasterio.open(root / "images/field0.tif") as picture,
        rasterio.open(root / "masks/field0.tif") as labels,
    ):
        for item in run.folder.read_dataset().split("validation"):
            assert item.piece is not None
            top, left = map(int, item.piece.whole.partition("@")[2].split("_"))
            window, core = item.piece.window, item.piece.core
            place = rasterio.windows.Window(left + window.left, top + window.top, window.width, window.height)
            said = predictor(picture.read(window=place).transpose(1, 2, 0)).mask
            truth, inner = labels.read(1, window=place), core.within(window).slices
            known = truth[inner] != IGNORE
            np.add.at(counted, (truth[inner][known], said[inner][known]), 1)
    np.testing.assert_array_equal(scores.confusion_KK, counted)


def test_what_is_kept_of_a_block_is_whole(tmp_path: Path) -> None:
    dataset, shapes = opened(make_fields(tmp_path, 2), TILED), []

    def keep(item: Item, picture: Picture, truth: Mask, prediction: Prediction) -> None:
        shapes.append((item.id, picture.shape[:2], truth.shape, prediction.mask.shape))

    evaluate(Local(), dataset, keep=keep)
    assert shapes == [(name, (90, 70), (90, 70), (90, 70)) for name in ("field0", "field1")]


def ignoring(root: Path, keys: str, name: str, box: list[int]) -> Dataset:
    return opened(root, f"{keys}ignore: {{{name}: [{box}]}}\n")


def test_a_box_holds_for_all_tiles_that_show_it_and_for_the_whole(tmp_path: Path) -> None:
    root = make_fields(tmp_path, count=1)
    plain = opened(root, TILED)
    tile = next(item for item in plain.items if item.piece is not None and item.piece.window[:2] != (0, 0))
    assert tile.piece is not None
    top, left, height, _ = tile.piece.window
    for name, box in ((tile.id, [2, 3, height - 2, 5]), ("field0", [top + 2, left + 3, height - 2, 5])):
        dataset = ignoring(root, TILED, name, box)
        expected = plain.mask(plain.scored("test")[0])
        expected[top + 2 : top + height, left + 3 : left + 8] = IGNORE
        (whole,) = dataset.scored("test")
        np.testing.assert_array_equal(dataset.mask(whole), expected)
        for item in dataset.items:
            assert item.piece is not None
            np.testing.assert_array_equal(dataset.mask(item), expected[item.piece.window.slices])
            counted = np.bincount(dataset.mask(item).ravel(), minlength=256)[:3]
            assert dataset.pixels[item.id].tolist() == counted.tolist()
        assert sum(bool(item.ignored) for item in dataset.items) > 1


def test_a_box_beside_the_whole_is_refused(tmp_path: Path) -> None:
    root = make_fields(tmp_path, count=1)
    with pytest.raises(DataError, match=r"field0 the box \[80, 0, 11, 5\], and its mask is 90 x 70"):
        ignoring(root, TILED, "field0", [80, 0, 11, 5])
