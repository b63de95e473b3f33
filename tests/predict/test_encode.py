"""What is written of a mask can be read again by other tools, and is the same mask."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from maskwright.data import rle
from maskwright.data.classes import ClassMap
from maskwright.data.dataset import open_dataset
from maskwright.data.drawing import polygon
from maskwright.errors import ConfigError
from maskwright.predict.encode import ENCODE, TAILS, Kind, check_kinds
from maskwright.predict.facts import Facts, facts_of
from maskwright.predict.objects import find_objects
from maskwright.predict.whole import FILES, write_whole
from maskwright.tensors import Prediction

CLASSES = ClassMap(("ground", "pet", "sky"), ((0, 0, 0), (230, 159, 0), (86, 180, 233)), {0: 0, 1: 1, 2: 2})


def said(size: tuple[int, int] = (23, 31), seed: int = 0, smooth: float = 1.5) -> Prediction:
    """Blobs of three classes."""
    noise = np.random.default_rng(seed).standard_normal((3, *size))
    if smooth:
        noise = ndimage.gaussian_filter(noise, (0, smooth, smooth))
    powers = np.exp(3 * noise / noise.std())
    shares = (powers / powers.sum(0)).astype(np.float32)
    return Prediction(shares.argmax(0).astype(np.uint8), shares, temperature=1.3)


def encoded(kind: Kind, prediction: Prediction) -> bytes:
    picture = np.full((*prediction.mask.shape, 3), 99, np.uint8)
    return ENCODE[kind](picture, prediction, CLASSES)


def test_every_kind_is_written_somewhere_and_none_over_another() -> None:
    assert {*TAILS, *FILES} == {*get_args(Kind)}
    assert {*ENCODE} == {*TAILS}
    assert len({*TAILS.values()}) == len(TAILS)


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        (["masks"], "--save masks is not known; did you mean mask?"),
        (["mask", "geojson"], "--save geojson is not known; "),
        ([], "--save names nothing; choose from mask, plain,"),
    ],
)
def test_a_kind_that_there_is_not(kinds: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=line.replace("?", r"\?")):
        check_kinds(kinds)


def test_plain_and_colour_masks() -> None:
    prediction = said()
    with Image.open(io.BytesIO(encoded("plain", prediction))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), prediction.mask)
    with Image.open(io.BytesIO(encoded("colour", prediction))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), np.array(CLASSES.colours)[prediction.mask])


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 2.0]), st.integers(1, 20), st.integers(1, 20))
def test_geojson_drawn_again_is_the_mask(seed: int, smooth: float, height: int, width: int) -> None:
    prediction = said((height, width), seed, smooth)
    read = json.loads(encoded("polygons", prediction))
    assert (read["type"], read["height"], read["width"]) == ("FeatureCollection", height, width)
    canvas = np.zeros((height, width), np.uint8)
    for feature in read["features"]:
        assert feature["type"] == "Feature"
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        inside = np.zeros((height, width), bool)
        for ring in (ring for rings in polygons for ring in rings):
            assert ring[0] == ring[-1]
            alone = np.zeros((height, width), bool)
            polygon(np.array(ring, float), (height, width), "a ring").paint(alone, 1)
            inside ^= alone
        assert inside.sum() == feature["properties"]["area"]
        assert CLASSES.names[feature["properties"]["id"]] == feature["properties"]["class"]
        canvas[inside] = feature["properties"]["id"]
    np.testing.assert_array_equal(canvas, prediction.mask)


PYCOCOTOOLS_ON_NUMPY_2 = "ignore:__array__ implementation:DeprecationWarning"


@pytest.mark.filterwarnings(PYCOCOTOOLS_ON_NUMPY_2)
def test_run_lengths_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    prediction = said()
    read = json.loads(encoded("rle", prediction))
    canvas = np.zeros(prediction.mask.shape, np.uint8)
    for segment in read["segments"]:
        flags = np.asfortranarray(prediction.mask == segment["id"]).astype(np.uint8)
        assert segment["counts"] == coco.encode(flags)["counts"].decode()
        canvas[coco.decode(segment).astype(bool)] = segment["id"]
    np.testing.assert_array_equal(canvas, prediction.mask)


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_the_run_lengths_of_each_region(seed: int, height: int, width: int) -> None:
    flags = np.random.default_rng(seed).random((height, width)) < 0.5
    labels, count = ndimage.label(flags, np.ones((3, 3)))
    numbers = labels[flags]
    texts = rle.compressed_regions(np.flatnonzero(flags), numbers, count, (height, width))
    assert texts == [rle.compressed(labels == number) for number in range(1, count + 1)]


def test_objects_are_measured_as_scikit_image_measures_them() -> None:
    measure = pytest.importorskip("skimage.measure")
    prediction = said((60, 70))
    objects = [each for each in find_objects(prediction) if each.class_id == 1]
    sure = prediction.calibrated[1]
    theirs = measure.regionprops(measure.label(prediction.mask == 1, connectivity=2), intensity_image=sure)
    assert len(objects) == len(theirs) > 3
    for ours, other in zip(objects, theirs, strict=True):
        top, left, bottom, right = other.bbox
        assert ours.area == other.area
        assert ours.box == (left, top, right - left, bottom - top)
        assert ours.centre == pytest.approx((other.centroid[1] + 0.5, other.centroid[0] + 0.5), abs=1e-5)
        assert ours.probability == pytest.approx(other.intensity_mean, abs=1e-5)


def test_pixels_by_hand() -> None:
    shares = np.array([[[0.9, 0.2], [0.7, 0.1]], [[0.1, 0.8], [0.3, 0.9]], [[0, 0], [0, 0]]], np.float32)
    facts = facts_of(Prediction(np.array([[0, 1], [0, 1]], np.uint8), shares))
    assert [(each.pixels, each.probability) for each in facts.pixels] == [(2, 0.8), (2, 0.85), (0, None)]
    (found,) = facts.objects
    assert (found.area, found.box, found.centre, found.probability) == (2, (1, 0, 1, 2), (1.5, 1.0), 0.85)
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, dict[str, Prediction]]:
    """All files of a call, and its predictions; a name with a comma and a quote is among them."""
    predictions = {'deep/a, "b".jpg': said(), "empty.png": said((5, 6)), "c.png": said((40, 9), 3)}
    nothing = np.zeros((3, 5, 6), np.float32)
    nothing[0] = 1
    predictions["empty.png"] = Prediction(np.zeros((5, 6), np.uint8), nothing)
    facts = {name: facts_of(prediction) for name, prediction in predictions.items()}
    for kind in FILES:
        write_whole(kind, tmp_path, lambda: iter(facts.items()), CLASSES)
    return tmp_path, predictions


@pytest.mark.filterwarnings(PYCOCOTOOLS_ON_NUMPY_2)
def test_pycocotools_loads_the_annotations(
    whole: tuple[Path, dict[str, Prediction]],
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    folder, predictions = whole
    read = coco.COCO(str(folder / "annotations.json"))
    assert {entry["id"]: entry["name"] for entry in read.loadCats(read.getCatIds())} == {1: "pet", 2: "sky"}
    for image in read.loadImgs(read.getImgIds()):
        mask = predictions[image["file_name"]].mask
        assert (image["height"], image["width"]) == mask.shape
        canvas = np.zeros(mask.shape, np.uint8)
        for annotation in read.loadAnns(read.getAnnIds(imgIds=image["id"])):
            inside = read.annToMask(annotation).astype(bool)
            rows, columns = np.nonzero(inside)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
            assert annotation["area"] == inside.sum()
            assert 0 < annotation["score"] <= 1
            canvas[inside] = annotation["category_id"]
        np.testing.assert_array_equal(canvas, mask)


def test_our_own_reader_opens_them_as_a_data_set(
    whole: tuple[Path, dict[str, Prediction]], tmp_path: Path
) -> None:
    predictions = whole[1]
    for name, prediction in predictions.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", prediction.mask.shape[::-1]).save(tmp_path / "images" / name)
    (tmp_path / "dataset.yaml").write_text(
        "format: coco\nimages: images\nsplits: {test: annotations.json}\nclasses: [background, pet, sky]\n"
    )
    dataset = open_dataset(tmp_path / "dataset.yaml")
    assert len(dataset.items) == 3
    for item in dataset.items:
        name = Path(str(item.image)).relative_to(tmp_path / "images").as_posix()
        np.testing.assert_array_equal(dataset.mask(item), predictions[name].mask)


def test_tables(whole: tuple[Path, dict[str, Prediction]]) -> None:
    folder, predictions = whole
    with open(folder / "pixels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(CLASSES)
    for row in rows:
        mask = predictions[row["picture"]].mask
        assert int(row["pixels"]) == np.sum(mask == int(row["id"]))
        assert float(row["share"]) == pytest.approx(np.mean(mask == int(row["id"])), abs=1e-6)
        assert bool(row["probability"]) == (row["pixels"] != "0")
    with open(folder / "objects.csv", newline="") as file:
        objects = list(csv.DictReader(file))
    for name, prediction in predictions.items():
        for k in (1, 2):
            areas = [int(row["area"]) for row in objects if (row["picture"], row["id"]) == (name, str(k))]
            assert sum(areas) == np.sum(prediction.mask == k)
            assert len(areas) == ndimage.label(prediction.mask == k, np.ones((3, 3)))[1]
    assert not [row for row in objects if row["id"] == "0" or row["picture"] == "empty.png"]
