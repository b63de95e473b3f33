"""Dense targets: what files may hold, how they are found, checked, fingerprinted and stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from maskwright.config import InputConfig
from maskwright.data.dataset import find_broken, open_dataset
from maskwright.data.image_io import dense_size, read_dense
from maskwright.data.store import list_stores, prepare
from maskwright.errors import ConfigError, DataError
from maskwright.fit import Fit, fit_dense

NAN = float("nan")


@pytest.fixture
def data(slopes: Path, tmp_path: Path) -> Path:
    """A copy of `slopes` to be written to."""
    shutil.copytree(slopes, tmp_path / "slopes")
    return tmp_path / "slopes"


def rewrite(data: Path, **keys: object) -> None:
    file = data / "dataset.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | keys))


@pytest.mark.parametrize(
    ("name", "numbers", "expected"),
    [
        ("a.png", np.array([[0, 7, 255]], np.uint8), [NAN, 7, 255]),
        ("a.png", np.array([[0, 300, 65535]], np.uint16), [NAN, 300, 65535]),
        ("a.tif", np.array([[0, 300, 65535]], np.uint16), [NAN, 300, 65535]),
        ("a.tif", np.array([[0, -2.5, NAN]], np.float32), [0, -2.5, NAN]),
        ("a.npy", np.array([[0, -2.5, np.inf]], np.float64), [0, -2.5, NAN]),
        ("a.npy", np.array([[1e300, 1, 2]], np.float64), [NAN, 1, 2]),
        ("a.npy", np.array([[0, -2, 3]], np.int16), [NAN, -2, 3]),
        ("a.npy", np.array([[0.5, 1, NAN]], np.float16), [0.5, 1, NAN]),
    ],
)
def test_zero_is_unknown_in_whole_numbers_and_nan_in_others(
    name: str, numbers: NDArray[np.generic], expected: list[float], tmp_path: Path
) -> None:
    if name.endswith(".npy"):
        np.save(tmp_path / name, numbers)
    else:
        Image.fromarray(numbers).save(tmp_path / name)
    field = read_dense(tmp_path / name)
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field, np.array([expected], np.float32))
    assert dense_size(tmp_path / name) == (1, 3)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("colours", "3 channel"),
        ("palette", "a palette"),
        ("three axes", r"float64 of shape \(4, 5, 3\)"),
        ("words", "holds <U1 of shape"),
        ("objects", "holds Python objects, is cut short"),
        ("cut short", "holds Python objects, is cut short"),
        ("lies", "holds Python objects, is cut short"),
        ("missing", "is not there"),
    ],
)
def test_what_is_no_target_is_told(kind: str, said: str, tmp_path: Path) -> None:
    image, array = tmp_path / "a.png", tmp_path / "a.npy"
    match kind:
        case "colours":
            Image.new("RGB", (5, 4)).save(image)
        case "palette":
            Image.new("P", (5, 4)).save(image)
        case "three axes":
            np.save(array, np.zeros((4, 5, 3)))
        case "words":
            np.save(array, np.full((4, 5), "a"))
        case "objects":
            np.save(array, np.full((4, 5), None), allow_pickle=True)
        case "cut short":
            np.save(array, np.zeros((4, 5)))
            array.write_bytes(array.read_bytes()[:-8])
        case "lies":
            np.save(array, np.zeros((4, 5)))
            array.write_bytes(array.read_bytes().replace(b"(4, 5)", b"(9000000, 9000)"))
    with pytest.raises(DataError, match=said):
        read_dense(image if image.exists() else array)


def test_they_belong_to_their_pictures_and_to_the_fingerprint(data: Path) -> None:
    dataset = open_dataset(data)
    assert dataset.targets == ("depth",)
    for item in dataset.items:
        depth, picture = dataset.dense(item, "depth"), dataset.image(item, 1)
        known = ~np.isnan(depth)
        np.testing.assert_array_equal(depth[known], 3.0 * picture[..., 0][known] + 7)
        assert 0.9 < known.mean() < 1
    before = dataset.fingerprint()
    again = open_dataset(_written(data, dataset.to_yaml()))
    assert (again.items, again.targets, again.fingerprint()) == (dataset.items, dataset.targets, before)
    np.save(data / "depth" / "03.npy", np.ones((32, 32)))
    assert open_dataset(data).fingerprint() != before
    rewrite(data, targets={"height": "depth/{id}.npy"})
    renamed = open_dataset(data).fingerprint()
    rewrite(data, targets=None)
    assert len({open_dataset(data).fingerprint(), renamed, before}) == 3


def _written(data: Path, text: str) -> Path:
    (data / "written.yaml").write_text(text)
    return data / "written.yaml"


def test_the_fingerprint_of_data_without_targets_is_what_it_was(tmp_path: Path) -> None:
    """The constant is older than targets. Files are written byte by byte: no encoder has a say."""
    for folder, levels in (("images", b"\x10\x20\x30\x40"), ("masks", b"\0\1\1\0")):
        (tmp_path / folder).mkdir()
        for name in "abc":
            (tmp_path / folder / f"{name}.pgm").write_bytes(b"P5 2 2 255\n" + levels)
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]\nvalidation: {fraction: 0.34}\n")
    assert open_dataset(tmp_path).fingerprint() == "ea68e95ecd81721a"


def test_a_target_of_another_size(data: Path) -> None:
    np.save(data / "depth" / "03.npy", np.ones((32, 30)))
    with pytest.raises(DataError, match=r"the target .*03.npy is 32 x 30 and its image 32 x 32"):
        open_dataset(data)


def test_missing_targets_are_listed_unless_nothing_is_trained_on_them(data: Path) -> None:
    (data / "depth" / "03.npy").unlink()
    (data / "depth" / "05.npy").unlink()
    said = (
        r"2 of 24 pictures for training and validation have no depth \(03, 05\); it would be depth/\{id\}.npy"
    )
    with pytest.raises(DataError, match=said):
        open_dataset(data)
    rewrite(data, exclude=["03", "05"])
    assert len(open_dataset(data).items) == 22
    ids = [f"{index:02}" for index in range(24)]
    rewrite(data, exclude=[], splits={"train": [*ids[:3], *ids[6:]], "test": ids[3:6]})
    dataset = open_dataset(data)
    (lacking,) = (item for item in dataset.split("test") if item.id == "03")
    assert np.isnan(dataset.dense(lacking, "depth")).all()


def test_broken_targets_are_found_listed_and_left_out(data: Path) -> None:
    (data / "depth" / "03.npy").write_bytes(b"these are words")
    dataset = open_dataset(data)
    assert [Path(str(path)).name for path, _ in find_broken(dataset)] == ["03.npy"]
    with pytest.raises(DataError, match=r"1 of 24 pictures cannot be used: .*03.npy holds Python objects"):
        prepare(dataset, InputConfig(size=(16, 16)))
    assert "03" not in {item.id for item in open_dataset(data, skip_broken=True).items}
    assert set(prepare(dataset, InputConfig(size=(16, 16)), skip_broken=True).broken) == {"03"}


def test_a_target_in_colour_is_told_when_it_is_decoded(data: Path) -> None:
    (data / "colour").mkdir()
    for index in range(24):
        Image.new("RGB", (32, 32)).save(data / "colour" / f"{index:02}.png")
    rewrite(data, targets={"depth": "colour/{id}.png"})
    with pytest.raises(DataError, match=r"24 of 24 pictures cannot be used: .*01.png has 3 channel"):
        prepare(open_dataset(data), InputConfig(size=(16, 16)))


@pytest.mark.parametrize("template", ["../depth/{id}.npy", "/depth/{id}.npy", "depth/03.npy", "C:/{id}.npy"])
def test_templates_stay_below_the_root(template: str, data: Path) -> None:
    rewrite(data, targets={"depth": template})
    with pytest.raises(ConfigError, match=r"targets: depth: .* no template below the root; write targets: "):
        open_dataset(data)


@pytest.mark.parametrize("name", ["Depth", "a.b", "", "1st"])
def test_names_become_keys_and_columns(name: str, data: Path) -> None:
    rewrite(data, targets={name: "depth/{id}.npy"})
    with pytest.raises(ConfigError, match="names a target"):
        open_dataset(data)


def test_arrays_in_npz_have_none(tmp_path: Path) -> None:
    zeros = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "all.npz", images=zeros, masks=zeros)
    (tmp_path / "dataset.yaml").write_text('format: npz\nimages: all.npz\ntargets: {depth: "{id}.npy"}\n')
    with pytest.raises(ConfigError, match="targets is given for the format npz"):
        open_dataset(tmp_path)


def test_split_folders_and_targets_beside_their_pictures(data: Path) -> None:
    """`a.png` beside `a_depth.png` in `train` and `val`: the target is no picture."""
    for split, ids in (("train", range(18)), ("val", range(18, 24))):
        for folder in ("both", "masks"):
            (data / split / folder).mkdir(parents=True)
        for index in ids:
            for kind, name in (("images", "{}.png"), ("depth", "{}_depth.npy"), ("masks", "{}.png")):
                (file,) = (data / kind).glob(f"{index:02}.*")
                folder = "masks" if kind == "masks" else "both"
                shutil.copy(file, data / split / folder / name.format(index))
    keys = {"images": "{split}/both/{id}.png", "masks": "{split}/masks/{id}.png"}
    rewrite(data, **keys, targets={"depth": "{split}/both/{id}_depth.npy"}, validation=None)
    dataset = open_dataset(data)
    assert [len(dataset.split(split)) for split in ("train", "validation")] == [18, 6]
    assert all(len(item.targets) == 1 for item in dataset.items)


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
def test_the_store_holds_them_fitted_like_their_pictures(fit: Fit, data: Path) -> None:
    dataset = open_dataset(data)
    config = InputConfig(size=(40, 24) if fit == "letterbox" else (24, 20), fit=fit, channels=1)
    store = prepare(dataset, config)
    by_id = {item.id: item for item in dataset.items}
    trained = []
    for row, name in enumerate(store.ids):
        depth = torch.from_numpy(dataset.dense(by_id[name], "depth"))
        stored = store.dense(np.array([row]), ["depth"])[0]
        np.testing.assert_array_equal(stored, fit_dense(depth[None, None], config.size, fit)[0])
        if store.splits[row] == "train":
            trained.append(stored[~np.isnan(stored)])
    numbers, moments = np.concatenate(trained).astype(np.float64), store.targets["depth"]
    assert moments.pixels == len(numbers)
    assert moments.mean == pytest.approx(numbers.mean(), rel=1e-9)
    assert moments.deviation == pytest.approx(numbers.std(), rel=1e-9)
    assert list_stores()[0].bytes == sum(
        file.stat().st_size for file in store.folder.iterdir() if file.suffix == ".bin"
    )


def test_windows_cut_picture_and_target_alike(data: Path) -> None:
    store = prepare(open_dataset(data), InputConfig(size=(16, 12), fit="crop", channels=1))
    rows, windows = store.rows("train"), np.random.default_rng(0).random((len(store.rows("train")), 2))
    pictures, depths = store.images(rows, windows), store.dense(rows, ["depth"], windows)
    known = ~np.isnan(depths)
    np.testing.assert_array_equal(depths[known], 3.0 * pictures[known] + 7)
    assert depths.shape == (18, 1, 16, 12)


def test_a_store_without_them_has_one_file_of_pixels(discs: Path) -> None:
    store = prepare(open_dataset(discs), InputConfig(size=(16, 16)))
    assert {file.name for file in store.folder.iterdir()} == {"data.bin", "index.json"}
    assert store.targets == {}


def test_a_store_that_lost_its_targets_is_built_again(data: Path) -> None:
    dataset, config = open_dataset(data), InputConfig(size=(16, 16))
    first = prepare(dataset, config)
    kept = first.dense(np.array([0]), ["depth"]).copy()
    (first.folder / "dense.bin").write_bytes(b"")
    np.testing.assert_array_equal(prepare(dataset, config).dense(np.array([0]), ["depth"]), kept)


def test_resizing_invents_nothing() -> None:
    """A hole stays a hole, a constant a constant; a pixel that is half known has the mean of what is known."""
    depth = torch.full((1, 1, 8, 8), 5.0)
    depth[..., :4, :4] = torch.nan
    small = fit_dense(depth, (4, 4), "resize")[0, 0]
    assert small[0, 0].isnan()
    assert (small[~small.isnan()] - 5).abs().max() < 1e-5
    assert small.isnan().sum() in range(1, 5)
    barred = fit_dense(depth, (4, 8), "letterbox")[0, 0]
    assert barred[:, [0, 1, 6, 7]].isnan().all()
    assert torch.equal(fit_dense(depth, (8, 8), "resize").isnan(), depth.isnan())
    halves = torch.tensor([[1.0, torch.nan, 3.0, torch.nan]]).view(1, 1, 1, 4)
    assert fit_dense(halves, (1, 1), "resize").item() == pytest.approx(2, abs=0.5)
