"""The store: the right bytes, whole or absent, bounded memory, and one clear error for broken files."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from maskwright.config import InputConfig
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.store import Normalise, Store, clean_stores, list_stores, prepare
from maskwright.errors import DataError, RunError
from maskwright.fit import fit_images, fit_labels, place
from maskwright.predict.preprocess import Preprocess
from maskwright.tensors import IGNORE

SIZE = (24, 32)
SHAPES = [(40, 30), (24, 32), (17, 50), (60, 61), (10, 12)]


def write_pictures(root: Path, count: int = 15, shapes: list[tuple[int, int]] = SHAPES) -> Path:
    """Smooth coloured pictures whose masks have the values 0, 1, 3 (a cat) and 255 (unknown)."""
    noise = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for row in range(count):
        height, width = shapes[row % len(shapes)]
        small = Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(
            root / "images" / f"p{row:02d}.jpg", quality=95
        )
        coarse = noise.choice(np.array([0, 0, 1, 3, 255], np.uint8), (6, 6))
        mask = coarse.repeat(height // 6 + 1, 0).repeat(width // 6 + 1, 1)
        Image.fromarray(np.ascontiguousarray(mask[:height, :width])).save(root / "masks" / f"p{row:02d}.png")
    keys = {
        "classes": ["ground", "dog", "cat"],
        "values": {0: "ground", 1: "dog", 3: "cat", 255: "ignore"},
        "validation": {"fraction": 0.2, "seed": 0},
    }
    (root / "dataset.yaml").write_text(yaml.safe_dump(keys))
    return root


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "zoo")


def items_of(store: Store, dataset: Dataset) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(row, original picture, original mask) of every row."""
    by_id = {item.id: item for item in dataset.items}
    for row, name in enumerate(store.ids):
        yield row, dataset.image(by_id[name], store.channels), dataset.mask(by_id[name])


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_rows_are_the_pictures_resized(zoo: Path) -> None:
    dataset = open_dataset(zoo)
    store = prepare(dataset, InputConfig(size=SIZE))
    assert [len(store.rows(split)) for split in ("train", "validation", "test")] == [12, 3, 0]
    assert [store.ids[row] for row in store.rows("validation")] == [i.id for i in dataset.split("validation")]
    for row, picture, mask in items_of(store, dataset):
        assert store.shape(row) == SIZE
        stored, labels = store.images(np.array([row])), store.labels(np.array([row]))
        pillow = Image.fromarray(picture).resize(SIZE[::-1], Image.Resampling.BILINEAR)
        assert np.abs(stored[0].transpose(1, 2, 0).astype(int) - np.asarray(pillow, int)).max() <= 1
        np.testing.assert_array_equal(labels[0], fit_labels(torch.tensor(mask)[None], SIZE, "resize")[0])
        assert set(np.unique(labels)) <= set(np.unique(mask)), "never interpolated"
    assert set(np.unique(store.labels(np.arange(15)))) == {0, 1, 2, IGNORE}


@pytest.mark.parametrize("normalise", get_args(Normalise))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_training_sees_what_prediction_sees(zoo: Path, normalise: Normalise, channels: int) -> None:
    """Bars included: the difference is what rounding to 8 bits costs, half a grey level."""
    dataset = open_dataset(zoo)
    config = InputConfig.model_validate(
        {"size": SIZE, "fit": "letterbox", "normalise": normalise, "channels": channels}
    )
    store = prepare(dataset, config)
    fill = Preprocess(SIZE, "letterbox", normalise, store.mean.tolist(), store.deviation.tolist()).fill
    for row, picture, mask in items_of(store, dataset):
        seen = fit_images(torch.tensor(picture).permute(2, 0, 1)[None] / 255, SIZE, "letterbox", fill)
        stored = torch.from_numpy(store.images(np.array([row]))) / 255
        assert (stored - seen).abs().max() <= 0.5 / 255 + 1e-6
        labels = store.labels(np.array([row]))[0]
        np.testing.assert_array_equal(labels, fit_labels(torch.tensor(mask)[None], SIZE, "letterbox")[0])


def test_crop_keeps_the_native_scale_and_pads_what_is_smaller(zoo: Path) -> None:
    dataset = open_dataset(zoo)
    store = prepare(dataset, InputConfig(size=SIZE, fit="crop", normalise="symmetric"))
    for row, picture, mask in items_of(store, dataset):
        height, width = picture.shape[:2]
        assert store.shape(row) == (max(height, SIZE[0]), max(width, SIZE[1]))
        top, left = (store.shape(row)[0] - height) // 2, (store.shape(row)[1] - width) // 2
        stored, labels = store.images(np.array([row]))[0], store.labels(np.array([row]))[0]
        inside = (slice(top, top + height), slice(left, left + width))
        np.testing.assert_array_equal(stored[:, *inside], picture.transpose(2, 0, 1))
        np.testing.assert_array_equal(labels[inside], mask)
        stored[:, *inside], labels[inside] = 128, IGNORE
        assert (stored == 128).all()
        assert (labels == IGNORE).all()


def test_windows_cut_picture_and_mask_alike(zoo: Path) -> None:
    dataset = open_dataset(zoo)
    store = prepare(dataset, InputConfig(size=SIZE, fit="crop"))
    chance = np.random.default_rng(1)
    rows, windows = chance.integers(0, 15, 40), chance.random((40, 2))
    images, labels = store.images(rows, windows), store.labels(rows, windows)
    assert images.shape == (40, 3, *SIZE)
    for index in range(40):
        picture, mask = store.images(rows[[index]])[0], store.labels(rows[[index]])[0]
        free = (picture.shape[1] - SIZE[0], picture.shape[2] - SIZE[1])
        top, left = (int(share * (room + 1)) for share, room in zip(windows[index], free, strict=True))
        window = (slice(top, top + SIZE[0]), slice(left, left + SIZE[1]))
        np.testing.assert_array_equal(images[index], picture[:, *window])
        np.testing.assert_array_equal(labels[index], mask[window])
    with pytest.raises(ValueError, match="different shapes need windows"):
        store.images(np.array([0, 1, 2, 3, 4]))


def test_every_place_of_a_window_is_reached(zoo: Path) -> None:
    store = prepare(open_dataset(zoo), InputConfig(size=(24, 30), fit="crop"))
    row = next(row for row in range(15) if store.shape(row) == (40, 30))
    whole = store.images(np.array([row]))[0]
    shares = np.stack(
        [np.linspace(0, 1, 400, endpoint=False, dtype=np.float32), np.zeros(400, np.float32)], 1
    )
    shares[-1] = 1  # what a rounding of the caller may give
    cut = store.images(np.full(400, row), shares)
    places = [next(top for top in range(17) if np.array_equal(c, whole[:, top : top + 24])) for c in cut]
    assert min(np.bincount(places)) >= 400 // 17
    assert (places[0], places[-1]) == (0, 16)


def test_what_is_read_may_be_written_to_and_nothing_else_changes(zoo: Path) -> None:
    store = prepare(open_dataset(zoo), InputConfig(size=SIZE))
    images = store.images(np.arange(4))
    before = images.copy()
    images += 1
    np.testing.assert_array_equal(store.images(np.arange(4)), before)
    assert store.images(np.array([], int)).shape == (0, 3, *SIZE)
    with pytest.raises(ValueError, match="read-only"):
        store.data[0] = 0


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
def test_counts_are_those_of_the_training_rows(zoo: Path, fit: str) -> None:
    dataset = open_dataset(zoo)
    store = prepare(dataset, InputConfig.model_validate({"size": SIZE, "fit": fit}))
    pixels, labels = [], []
    for row, picture, _ in items_of(store, dataset):
        if store.splits[row] == "train":
            native = (picture.shape[0], picture.shape[1])
            top, left = ((a - b) // 2 for a, b in zip(store.shape(row), native, strict=True))
            inside = (slice(top, top + native[0]), slice(left, left + native[1]))
            if fit != "crop":
                inside = place(native, SIZE, "resize" if fit == "resize" else "letterbox").window
            pixels.append(store.images(np.array([row]))[0, :, *inside].reshape(3, -1))
            labels.append(store.labels(np.array([row])).ravel())
    values, known = np.concatenate(pixels, axis=1) / 255, np.concatenate(labels)
    np.testing.assert_allclose(store.mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(store.deviation, values.std(axis=1), rtol=1e-9)
    assert store.class_pixels.tolist() == [(known == label).sum() for label in range(3)]


def test_bytes_do_not_depend_on_the_number_of_threads(zoo: Path) -> None:
    dataset, config = open_dataset(zoo), InputConfig(size=SIZE, fit="letterbox")
    contents = []
    for workers in (1, 5):
        folder = prepare(dataset, config, workers=workers).folder
        contents.append([(folder / name).read_bytes() for name in ("data.bin", "index.json")])
        assert clean_stores() > 15 * 4 * 24 * 32
    assert contents[0] == contents[1]


def test_it_is_built_once_and_again_when_anything_changes(zoo: Path) -> None:
    def built(config: InputConfig, splits: tuple[str, ...] = ("train", "validation")) -> tuple[str, int]:
        folder = prepare(open_dataset(zoo), config, splits=splits).folder
        return folder.name, (folder / "data.bin").stat().st_mtime_ns

    first = built(InputConfig(size=SIZE))
    assert built(InputConfig(size=SIZE)) == first
    assert built(InputConfig(size=SIZE, normalise="unit")) == first, "there are no bars"
    others = {
        built(InputConfig(size=(32, 24)))[0],
        built(InputConfig(size=SIZE, channels=1))[0],
        built(InputConfig(size=SIZE, fit="letterbox"))[0],
        built(InputConfig(size=SIZE, fit="letterbox", normalise="unit"))[0],
        built(InputConfig(size=SIZE, fit="crop"))[0],
        built(InputConfig(size=SIZE), ("train",))[0],
    }
    Image.new("RGB", (30, 40), (9, 9, 9)).save(zoo / "images" / "p00.jpg")
    others.add(built(InputConfig(size=SIZE))[0])
    assert len(others | {first[0]}) == 8


@pytest.mark.parametrize("damage", ["shorter data", "no data", "no index", "half an index"])
def test_a_store_damaged_by_hand_is_built_again(zoo: Path, damage: str) -> None:
    dataset, config = open_dataset(zoo), InputConfig(size=SIZE)
    folder = prepare(dataset, config).folder
    whole = (folder / "data.bin").read_bytes()
    if damage == "shorter data":
        os.truncate(folder / "data.bin", 1000)
    elif damage == "half an index":
        truncate(folder / "index.json")
    else:
        (folder / ("data.bin" if damage == "no data" else "index.json")).unlink()
    assert list_stores() == []
    assert (prepare(dataset, config).folder / "data.bin").read_bytes() == whole


def test_broken_files_are_told_in_one_line(zoo: Path) -> None:
    broken = [f"p{row:02d}" for row in (1, 3, 4, 6, 7, 10, 12)]
    for name in broken:
        truncate(zoo / "images" / f"{name}.jpg")
    dataset, config = open_dataset(zoo), InputConfig(size=SIZE)
    with pytest.raises(DataError) as caught:
        prepare(dataset, config)
    assert caught.value.problem.startswith("7 of 15 pictures cannot be used: ")
    assert "\n" not in str(caught.value)
    assert sum(f"{name}.jpg" in caught.value.problem for name in broken) == 5
    assert caught.value.problem.endswith(" and 2 more")
    assert caught.value.hint.endswith("--skip-broken")
    assert list_stores() == []

    store = prepare(dataset, config, skip_broken=True)
    assert sorted(store.broken) == broken
    assert set(store.ids) == {item.id for item in dataset.items} - set(broken)
    healthy = open_dataset(zoo).without(broken)
    np.testing.assert_array_equal(
        store.images(np.arange(8)), prepare(healthy, config).images(np.arange(8)), "the others moved up"
    )
    with pytest.raises(DataError, match="7 of 15"):
        prepare(dataset, config)


def test_when_nothing_is_left_skipping_does_not_help(zoo: Path) -> None:
    for path in (zoo / "images").iterdir():
        truncate(path)
    with pytest.raises(DataError, match="15 of 15 pictures cannot be used"):
        prepare(open_dataset(zoo), InputConfig(size=SIZE), skip_broken=True)


def test_a_mistake_in_all_pictures_is_told_early(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "many", 70, [(20, 20)])
    dataset = open_dataset(root)
    for path in (root / "images").iterdir():
        truncate(path)
    with pytest.raises(DataError, match="50 of the first 50 pictures cannot be used"):
        prepare(dataset, InputConfig(size=SIZE))


def test_a_file_that_vanished_is_a_broken_one(zoo: Path) -> None:
    dataset = open_dataset(zoo)
    dataset.fingerprint()
    (zoo / "images" / "p05.jpg").unlink()
    with pytest.raises(DataError, match=r"p05\.jpg"):
        prepare(dataset, InputConfig(size=SIZE))


def test_an_empty_split_is_an_error(zoo: Path) -> None:
    with pytest.raises(DataError, match="no pictures in test"):
        prepare(open_dataset(zoo), InputConfig(size=SIZE), splits=("test",))


def test_stores_are_listed_and_cleaned(zoo: Path, cache: Path) -> None:
    prepare(open_dataset(zoo), InputConfig(size=SIZE))
    prepare(open_dataset(zoo), InputConfig(size=(8, 8), fit="letterbox"))
    found = {(info.dataset, info.images, info.size, info.fit): info for info in list_stores()}
    assert set(found) == {("zoo", 15, SIZE, "resize"), ("zoo", 15, (8, 8), "letterbox")}
    assert found["zoo", 15, (8, 8), "letterbox"].bytes == 15 * 4 * 64
    on_disk = sum(path.stat().st_size for path in (cache / "stores").rglob("*") if path.is_file())
    assert clean_stores() == on_disk
    assert list_stores() == []
    assert clean_stores() == 0


def test_what_killed_processes_left_is_swept_but_nothing_that_lives(zoo: Path, cache: Path) -> None:
    for name, age in (("a.partial-0", 7200), ("b.partial-1", 60)):
        (cache / "stores" / name).mkdir(parents=True)
        (cache / "stores" / name / "data.bin").write_bytes(b"half")
        for path in (cache / "stores" / name / "data.bin", cache / "stores" / name):
            os.utime(path, (time.time() - age,) * 2)
    store = prepare(open_dataset(zoo), InputConfig(size=SIZE))
    assert {path.name for path in (cache / "stores").iterdir()} == {"b.partial-1", store.folder.name}
    assert [info.folder for info in list_stores()] == [store.folder]


def test_two_at_once_share_one_store(zoo: Path, cache: Path) -> None:
    dataset = open_dataset(zoo)
    dataset.fingerprint()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: prepare(dataset, InputConfig(size=SIZE), workers=1), range(4)))
    assert len({store.folder for store in stores}) == 1
    assert [path.name for path in (cache / "stores").iterdir()] == [stores[0].folder.name]
    for store in stores:
        np.testing.assert_array_equal(store.images(np.arange(15)), stores[0].images(np.arange(15)))


def test_a_full_disk_leaves_nothing(zoo: Path, cache: Path) -> None:
    dataset = open_dataset(zoo)
    dataset.fingerprint()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match=r"could not be written.*; free some space"):
            prepare(dataset, InputConfig(size=SIZE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((cache / "stores").iterdir()) == []
    assert len(prepare(dataset, InputConfig(size=SIZE)).ids) == 15


class Watched:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        self.seen.append((what, total, sum(done)))

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_progress_goes_to_the_end(zoo: Path) -> None:
    watched = Watched()
    for _ in range(2):
        prepare(open_dataset(zoo), InputConfig(size=SIZE), progress=watched)
    assert watched.seen == [("Decoding", 15, 15)]


class Halting:
    """Progress that says when so many are done, and goes no further."""

    def __init__(self, at: int, there: Event) -> None:
        self.at, self.there = at, there

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done == self.at:
                self.there.set()
                threading.Event().wait()

        yield advance

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_a_killed_preparation_leaves_nothing_that_looks_whole(tmp_path: Path, cache: Path) -> None:
    """Killed at the first picture, in the middle, when all are written; and at moments that the clock chooses."""
    dataset, config = (
        open_dataset(write_pictures(tmp_path / "many", 60, [(200, 150)])),
        InputConfig(size=SIZE),
    )
    truth = prepare(dataset, config)
    reference = (truth.folder / "data.bin").read_bytes()
    clean_stores()

    context = multiprocessing.get_context("forkserver")  # imports torch once, then forks in no time
    context.set_forkserver_preload(["maskwright.data.store"])

    def begin(**options: object) -> multiprocessing.process.BaseProcess:
        clean_stores()
        process = context.Process(target=prepare, args=(dataset, config), kwargs={"workers": 1, **options})
        process.start()
        return process

    def end(process: multiprocessing.process.BaseProcess) -> list[str]:
        """Kill it; what lies in the cache then. Whatever that is, the next preparation gives what it always gives."""
        process.kill()
        process.join()
        left = sorted(path.name for path in (cache / "stores").glob("*"))
        whole = [info.folder for info in list_stores()]
        assert [folder.name for folder in whole] == [name for name in left if ".partial-" not in name]
        assert all((folder / "data.bin").read_bytes() == reference for folder in whole)
        assert (prepare(dataset, config).folder / "data.bin").read_bytes() == reference
        return left

    for at in (1, 30, 60):
        there = context.Event()
        process = begin(progress=Halting(at, there))
        assert there.wait(60)
        (left,) = end(process)
        assert left.startswith(f"{truth.folder.name}.partial-")

    undisturbed, chance = begin(), random.Random(0)
    begun = time.monotonic()
    undisturbed.join()
    seconds = time.monotonic() - begun
    assert [info.folder for info in list_stores()] == [truth.folder]
    for _ in range(6):
        process = begin()
        time.sleep(chance.uniform(0.1, 1.1) * seconds)
        end(process)


HUNGRY = """
import json, resource, sys
from maskwright.config import InputConfig
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

small, large = (open_dataset(root) for root in sys.argv[1:])
small.fingerprint(), large.fingerprint()
config = InputConfig(size=(64, 64), fit="crop")
prepare(small, config, workers=2)
before = peak()
store = prepare(large, config, workers=2)
print(json.dumps({"grown": peak() - before, "stored": len(store.data)}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """As large pictures in both, but 12 of them first and 90 then: 140 MB go by and must not pile up."""
    roots = [write_pictures(tmp_path / str(count), count, [(640, 620)]) for count in (12, 90)]
    told = subprocess.run(
        [sys.executable, "-c", HUNGRY, *map(str, roots)], check=True, capture_output=True, text=True
    ).stdout
    numbers = json.loads(told)
    assert numbers["stored"] > 140e6
    assert numbers["grown"] < 40e6
