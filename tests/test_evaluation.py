"""evaluate against counts made from the files alone, and what bad input gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from maskwright.data.classes import ClassMap, default_palette
from maskwright.data.dataset import Dataset, Item, open_dataset
from maskwright.errors import ConfigError, DataError
from maskwright.evaluation import check_classes, evaluate, nearest
from maskwright.metrics.contract import DEFAULT, MetricContract
from maskwright.metrics.masks import pair
from maskwright.metrics.surface import surface
from maskwright.tensors import IGNORE, Mask, Picture, Prediction

BINARY = ("background", "pet")
TERRAIN = ("background", "soil", "rock")


def class_map(names: tuple[str, ...]) -> ClassMap:
    return ClassMap(names, default_palette(len(names)), {id: id for id in range(len(names))})


@dataclass(frozen=True)
class Brightness:
    """A predictor that needs no training: the brighter, the likelier pet."""

    classes: ClassMap = field(default_factory=lambda: class_map(BINARY))
    channels: int = 1

    def __call__(self, image: Picture, /) -> Prediction:
        bright = image.mean(axis=2, dtype=np.float32) / np.float32(255)
        return Prediction((bright > 0.5).astype(np.uint8), np.stack([1 - bright, bright]))


@dataclass(frozen=True)
class Bands:
    """Three classes by thirds of the brightness."""

    classes: ClassMap = field(default_factory=lambda: class_map(TERRAIN))
    channels: int = 1

    def __call__(self, image: Picture, /) -> Prediction:
        mask = np.minimum(image[..., 0] // 85, 2)
        return Prediction(mask, np.moveaxis(np.eye(3, dtype=np.float32)[mask], 2, 0))


@dataclass(frozen=True)
class Heard:
    """Progress that remembers."""

    tasks: list[tuple[str, int]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        self.tasks.append((what, total))
        yield self.steps.append

    def say(self, line: str) -> None:
        raise AssertionError(line)


def write_data(
    root: Path, sizes: Mapping[str, tuple[int, int]], names: tuple[str, ...] = BINARY, **keys: object
) -> Path:
    """Grey noise whose brightness hints at its noisy mask, some pixels ignored, all in the test split."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name, size in sizes.items():
        mask = random.integers(0, len(names), size).astype(np.uint8)
        picture = np.clip(mask * 90.0 + random.normal(40, 50, size), 0, 255).astype(np.uint8)
        mask[random.random(size) < 0.1] = IGNORE
        Image.fromarray(picture).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    known = {
        "images": "images/{id}.png",
        "masks": "masks/{id}.png",
        "classes": list(names),
        "values": {**dict(enumerate(names)), 255: "ignore"},
        "splits": {"test": list(sizes)},
    }
    (root / "dataset.yaml").write_text(yaml.safe_dump(known | keys))
    return root


SIZES = {"a": (31, 17), "b": (8, 8), "c": (1, 40), "d": (25, 26)}


@pytest.fixture
def binary(tmp_path: Path) -> Dataset:
    return open_dataset(write_data(tmp_path / "data", SIZES))


def files_of(dataset: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask of an item, read without the library."""
    return (
        np.asarray(Image.open(dataset.root / "images" / f"{name}.png")),
        np.asarray(Image.open(dataset.root / "masks" / f"{name}.png")),
    )


def test_every_count_follows_from_the_files_alone(binary: Dataset) -> None:
    result = evaluate(Brightness(), binary)
    dices = []
    for name in SIZES:
        picture, truth = files_of(binary, name)
        said, known = picture > 127, truth != IGNORE
        tp = int((said & (truth == 1) & known).sum())
        fp = int((said & (truth == 0) & known).sum())
        fn = int((~said & (truth == 1) & known).sum())
        row = next(row for row in result.per_image if (row.id, row.class_id) == (name, 1))
        assert (row.tp, row.fp, row.fn, row.fp_background) == (tp, fp, fn, fp)
        dices.append(2 * tp / (2 * tp + fp + fn))
    assert result["dice_image"].value == pytest.approx(np.mean(dices), abs=1e-15)
    assert result.ids == tuple(SIZES)
    assert result.contract == DEFAULT.resolved(2)


def test_more_classes_and_every_count_of_the_contract(tmp_path: Path) -> None:
    dataset = open_dataset(write_data(tmp_path / "data", SIZES, TERRAIN))
    contract = MetricContract(drop_truth=(1,), foreground=(2,))
    result = evaluate(Bands(), dataset, contract=contract)
    for name in SIZES:
        picture, truth = files_of(dataset, name)
        said, known = np.minimum(picture // 85, 2), (truth != IGNORE) & (truth != 1)
        for k in range(3):
            row = next(row for row in result.per_image if (row.id, row.class_id) == (name, k))
            hits = (said == k) & (truth == k) & known
            assert row.tp == hits.sum()
            assert row.tp + row.fp == ((said == k) & known).sum()
            assert row.tp + row.fn == ((truth == k) & known).sum()


def test_keep_sees_every_picture_at_its_own_size(binary: Dataset) -> None:
    seen: list[tuple[Item, Picture, Mask, Prediction]] = []
    evaluate(
        Brightness(),
        binary,
        contract=MetricContract(resolution=(4, 4)),
        keep=lambda item, picture, truth, prediction: seen.append((item, picture, truth, prediction)),
    )
    assert [item.id for item, *_ in seen] == list(SIZES)
    for item, picture, truth, prediction in seen:
        assert picture.shape == (*SIZES[item.id], 1)
        assert truth.shape == prediction.mask.shape == SIZES[item.id]
        assert np.array_equal(truth, files_of(binary, item.id)[1])


def test_the_channels_are_those_that_the_predictor_wants(binary: Dataset) -> None:
    shapes: list[int] = []
    colour = Brightness(channels=3)
    evaluate(colour, binary, keep=lambda item, picture, truth, prediction: shapes.append(picture.shape[2]))
    assert shapes == [3] * len(SIZES)


def test_another_resolution_counts_nearest_pixels_of_both_masks(binary: Dataset) -> None:
    result = evaluate(Brightness(), binary, contract=MetricContract(resolution=(6, 10)))
    for name in SIZES:
        picture, truth = files_of(binary, name)

        def shrunk(mask: np.ndarray) -> np.ndarray:
            whole = torch.from_numpy(mask.astype(np.float32))[None, None]
            return torch.nn.functional.interpolate(whole, (6, 10), mode="nearest-exact")[0, 0].numpy()

        small, said = shrunk(truth), shrunk(picture > 127)
        row = next(row for row in result.per_image if (row.id, row.class_id) == (name, 1))
        assert row.tp == ((said == 1) & (small == 1)).sum()
        assert row.fn == ((said == 0) & (small == 1)).sum()
    assert result.contract.hash != DEFAULT.resolved(2).hash


def test_contours_objects_errors_and_facts_of_every_picture(tmp_path: Path) -> None:
    """Each of them is tested beside its own module: here, that it is asked about the right masks."""
    dataset = open_dataset(write_data(tmp_path / "data", SIZES, TERRAIN))
    for small in (None, (9, 7)):
        contract = MetricContract(resolution=small or "native", drop_truth=(2,)).resolved(3)
        result = evaluate(Bands(), dataset, contract=contract)
        tallies, objects = result.tallies, list(result.objects)
        for image, name in enumerate(SIZES):
            picture, truth = files_of(dataset, name)
            said = np.minimum(picture // 85, 2)
            size = small or SIZES[name]
            masks = pair(nearest(truth, size), nearest(said, size), contract)
            counts, distance = surface(masks, 3, contract)
            assert tallies.surface_NK5 is not None
            assert np.array_equal(tallies.surface_NK5[image], counts)
            assert tallies.distance_NK2 is not None
            assert np.array_equal(tallies.distance_NK2[image], distance, equal_nan=True)
            assert tallies.facts_NF is not None
            assert tallies.facts_NF[image, :3] == pytest.approx([*SIZES[name], picture.mean() / 255])
            mine = [entry for entry in objects if entry.id == name]
            known = masks.known & (masks.truth == 1)
            assert sum(entry.pixels for entry in mine if entry.class_id == 1) == known.sum()
            assert tallies.objects_NS5 is not None
            assert tallies.objects_NS5[image, :, 0].sum() == len(mine)
            assert tallies.anatomy_NEK4 is not None
            gone = tallies.counts_NK4[image] - tallies.anatomy_NEK4[image]
            wrong = masks.known & (masks.truth != masks.predicted)
            assert gone[..., 2].sum() == wrong.sum()
        assert {"boundary_iou", "nsd", "hd95", "assd"} <= set(result.metrics)
        assert [entry.size for entry in result.per_size] == ["small", "medium", "large"]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 17), (64, 100)])
def test_nearest_takes_the_value_under_the_centre(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 200, (31, 17)).astype(np.uint8)
    whole = torch.from_numpy(mask).float()[None, None]
    expected = torch.nn.functional.interpolate(whole, size, mode="nearest-exact")[0, 0].numpy()
    assert np.array_equal(nearest(mask, size), expected)
    assert nearest(mask, (31, 17)).tolist() == mask.tolist()


def test_the_contract_decides_the_threshold_and_equal_is_not_greater(binary: Dataset) -> None:
    exactly = MetricContract(threshold=102 / 255)  # 102 / 255 in float32 is a value that pictures hold
    masks: dict[str, Mask] = {}
    result = evaluate(
        Brightness(),
        binary,
        contract=exactly,
        keep=lambda item, picture, truth, prediction: masks.update({item.id: prediction.mask}),
    )
    held = 0
    for name, mask in masks.items():
        picture, _ = files_of(binary, name)
        assert np.array_equal(mask, picture > 102)
        held += int((picture == 102).sum())
    assert held > 0
    assert any("cut elsewhere than at the contract's 0.4" in line for line in result.advice)
    assert not any("cut elsewhere" in line for line in evaluate(Brightness(), binary).advice)


def test_intervals_resample_the_groups_of_the_data(tmp_path: Path) -> None:
    sizes = {f"{video}_{number}": (9, 9) for video in "abc" for number in range(4)}
    dataset = open_dataset(write_data(tmp_path / "data", sizes, groups="{id:before _}"))
    result = evaluate(Brightness(), dataset)
    assert (result.n_images, result.n_groups) == (12, 3)
    assert result.groups == tuple("aaaabbbbcccc")
    assert any("3 groups, at least 50 are needed" in line for line in result.advice)


def test_progress_is_told(binary: Dataset) -> None:
    heard = Heard()
    evaluate(Brightness(), binary, progress=heard)
    assert heard.tasks == [("Evaluating test", len(SIZES))]
    assert sum(heard.steps) == len(SIZES)


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        (("background", "cat"), ("background", "dog"), "classes that the model does not know: dog"),
        (("background", "cat", "dog"), ("background", "dog"), "classes that the data do not have: cat"),
        (
            ("cat", "background"),
            ("background", "cat"),
            "ordered cat, background; of the data background, cat",
        ),
    ],
)
def test_other_classes_are_refused_by_name(model: tuple[str, ...], data: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_classes(model, data)


def test_the_data_must_have_the_classes_of_the_model(binary: Dataset) -> None:
    with pytest.raises(DataError, match="does not know: pet"):
        evaluate(Bands(), binary)


def test_a_contract_for_other_classes_is_refused(binary: Dataset) -> None:
    with pytest.raises(ConfigError, match="foreground names class 2"):
        evaluate(Brightness(), binary, contract=MetricContract(foreground=(2,)))


def test_an_empty_split_says_which_there_are(binary: Dataset) -> None:
    with pytest.raises(DataError, match=r"has no split 'validation'; it has: test"):
        evaluate(Brightness(), binary, split="validation")


def test_pictures_without_masks_cannot_be_scored(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", SIZES, splits={"test": ["a"], "unlabelled": ["b", "c"]})
    for name in "bc":
        (root / "masks" / f"{name}.png").unlink()
    with pytest.raises(DataError, match="2 of 2 pictures of split 'unlabelled' have no mask: b, c"):
        evaluate(Brightness(), open_dataset(root), split="unlabelled")


def cut(path: Path) -> None:
    """What a broken download leaves."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_broken_files_are_listed_in_one_error(binary: Dataset) -> None:
    cut(binary.root / "images" / "b.png")
    cut(binary.root / "masks" / "d.png")
    judged: list[str] = []
    with pytest.raises(DataError) as caught:
        evaluate(
            Brightness(),
            binary,
            keep=lambda item, picture, truth, prediction: judged.append(item.id),
        )
    text = str(caught.value)
    assert "2 pictures that cannot be used" in text
    assert "b.png" in text
    assert "d.png" in text
    assert "--skip-broken" in text
    assert "\n" not in text
    assert judged == ["a"]  # no time is spent on predictions that the error throws away


def test_skip_broken_goes_on_and_says_so(binary: Dataset) -> None:
    whole = evaluate(Brightness(), binary)
    cut(binary.root / "images" / "b.png")
    result = evaluate(Brightness(), binary, skip_broken=True)
    assert result.ids == ("a", "c", "d")
    assert any("left out: 1 picture" in line and "b.png" in line for line in result.advice)
    kept = [row for row in whole.per_image if row.id != "b"]
    assert list(result.per_image) == kept


def test_nothing_but_broken_files_is_an_error_even_with_skip_broken(binary: Dataset) -> None:
    for name in SIZES:
        cut(binary.root / "images" / f"{name}.png")
    with pytest.raises(DataError, match="4 pictures that cannot be used"):
        evaluate(Brightness(), binary, skip_broken=True)


def test_a_prediction_of_another_size_names_the_picture(binary: Dataset) -> None:
    @dataclass(frozen=True)
    class Cropped(Brightness):
        def __call__(self, image: Picture, /) -> Prediction:
            return super().__call__(image[1:])

    for contract in (DEFAULT, MetricContract(resolution=(8, 8))):
        with pytest.raises(DataError, match="a: the truth is 31 x 17 and the prediction 30 x 17"):
            evaluate(Cropped(), binary, contract=contract)
