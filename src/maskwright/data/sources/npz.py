"""Arrays in .npz files: `images` (N, H, W[, C]) and `masks` (N, H, W), uint8, optionally `ids` (N).

Four forms are read:
- one file per split: `train.npz`, `val.npz`, `test.npz` in a folder, or `splits:` in dataset.yaml;
- one file with `train_images`, `train_masks`, `val_images`, ..., `test_masks`;
- one file with `images`, `masks` (all of it train, from which the validation set is drawn);
- `training_set` (N, 2, H, W), picture and mask in one array, and `test_set` (N, H, W) without masks
  (document 003).

A member is unpacked once, streamed, into the cache and memory-mapped from there; pickled objects are never read.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright.data.documents import check_plain
from maskwright.data.fingerprint import content_hashes
from maskwright.data.folders import check_room
from maskwright.data.sources.common import DataConfig, Frame, Pair, split_name
from maskwright.errors import ConfigError, DataError
from maskwright.files import cache_folder, write_atomic

_PREFIXES = {
    "": "train",
    "train_": "train",
    "val_": "validation",
    "validation_": "validation",
    "test_": "test",
}
MOST = 2_000_000
"""Pictures in one array: of one pixel each they would take a thousand times their own room as items."""
LONGEST_ID = 4096
"""Bytes."""
_FILES = ("train", "val", "validation", "test")


def recognise(root: Path) -> bool:
    return (root / "train.npz").is_file() or len(list(root.glob("*.npz"))) == 1


def complete(root: Path, config: DataConfig) -> DataConfig:
    """`images` names the one file, or `splits` one file each."""
    if config.masks is not None:
        raise ConfigError("masks is given for the format npz", "images names the file that holds both")
    if config.targets:
        raise ConfigError(
            "targets is given for the format npz", "dense targets are files, beside images in a folder"
        )
    if config.images is None and config.splits is None:
        found = {name: f"{name}.npz" for name in _FILES if (root / f"{name}.npz").is_file()}
        single = sorted(path.name for path in root.glob("*.npz"))
        if "train" in found:
            config = config.model_copy(update={"splits": found})
        elif len(single) == 1:
            config = config.model_copy(update={"images": single[0]})
        else:
            raise DataError(
                f"{root} holds no train.npz and {len(single)} .npz files",
                "name them in dataset.yaml: splits: {train: FILE.npz, validation: FILE.npz}",
            )
    return config


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """One pair per row. Raises DataError: members missing, of the wrong shape or type, ids twice."""
    if config.splits is None:
        pairs = _read_single(root / str(config.images))
    else:
        pairs = []
        for origin, file in config.splits.items():
            if not isinstance(file, str):
                raise ConfigError(
                    f"splits: {origin} is a list of ids", "for the format npz it names an .npz file"
                )
            pairs += _read_arrays(root / file, "", origin)
    seen = set[str]()
    for pair in pairs:
        if pair.id in seen:
            raise DataError(
                f"{root} holds the id {pair.id} twice", "make the arrays `ids` unique over all splits"
            )
        seen.add(pair.id)
    return tuple(pairs)


def _read_single(file: Path) -> list[Pair]:
    held = members(file)
    if "training_set" in held:
        return _read_planes(file, "test_set" in held)
    pairs: list[Pair] = []
    for prefix, split in _PREFIXES.items():
        if f"{prefix}images" in held:
            pairs += _read_arrays(file, prefix, split)
    if not pairs:
        raise DataError(
            f"{file} holds {', '.join(held) or 'nothing'}",
            "looked for images and masks (with train_, val_, test_ in front or without), or training_set",
        )
    return pairs


def _read_arrays(file: Path, prefix: str, origin: str) -> list[Pair]:
    held = members(file)
    images, masks = f"{prefix}images", f"{prefix}masks"
    unlabelled = split_name(origin, str(file)) == "unlabelled"
    for member in (images, masks):
        if member not in held and not (member == masks and unlabelled):
            raise DataError(
                f"{file} has no array {member!r}; it holds {', '.join(held)}",
                f"save it with np.savez(file, {images}=..., {masks}=...)",
            )
    pictures = _checked(file, images, (3, 4), whole=False)
    if masks in held:
        labels = _checked(file, masks, (3,), whole=True)
        if labels.shape != pictures.shape[:3]:
            raise DataError(
                f"{file}: {images} is {pictures.shape} and {masks} is {labels.shape}",
                "both need the same number, height and width",
            )
    return [
        Pair(name, origin, Frame(file, images, row), Frame(file, masks, row) if masks in held else None)
        for row, name in enumerate(_ids(file, prefix, origin, len(pictures)))
    ]


def _ids(file: Path, prefix: str, origin: str, count: int) -> list[str]:
    member = f"{prefix}ids"
    if member not in members(file):
        return [f"{origin}_{row:05d}" for row in range(count)]
    ids = opened(file, member)
    if ids.dtype.kind not in "USiu" or ids.dtype.itemsize > LONGEST_ID:
        raise DataError(f"{file}: {member} is {ids.dtype}", "ids are short texts or whole numbers")
    if len(ids) != count:
        raise DataError(
            f"{file}: {member} has {len(ids)} entries for {count} images", "give one id per image"
        )
    return [str(name) for name in ids]


def _read_planes(file: Path, tested: bool) -> list[Pair]:
    both = _checked(file, "training_set", (4,), whole=False)
    if both.shape[1] != 2:
        raise DataError(f"{file}: training_set is {both.shape}", "(N, 2, H, W) holds picture and mask")
    pairs = [
        Pair(
            f"train_{row:05d}",
            "train",
            Frame(file, "training_set", row, 0),
            Frame(file, "training_set", row, 1),
        )
        for row in range(len(both))
    ]
    if tested:
        count = len(_checked(file, "test_set", (3, 4), whole=False))
        pairs += [
            Pair(f"test_{row:05d}", "unlabelled", Frame(file, "test_set", row), None) for row in range(count)
        ]
    return pairs


def _checked(file: Path, member: str, dimensions: tuple[int, ...], *, whole: bool) -> NDArray[np.generic]:
    array = opened(file, member)
    if whole and array.dtype.kind in "bui":
        pass
    elif array.dtype != np.uint8:
        advice = (
            "save class ids as uint8"
            if whole
            else "numbers in [0, 1] become uint8 by (255 * images).round().astype('uint8')"
        )
        raise DataError(f"{file}: {member} is {array.dtype}, which is not read as it is", advice)
    if array.ndim not in dimensions:
        shapes = " or ".join("(N, H, W)" if number == 3 else "(N, H, W, C)" for number in dimensions)
        raise DataError(f"{file}: {member} is {array.shape}", f"the shape has to be {shapes}")
    if not 0 < len(array) <= MOST or not array[0].size:
        raise DataError(
            f"{file}: {member} is {array.shape}", f"it needs 1 to {MOST:,} pictures, of one pixel or more"
        )
    return array


@lru_cache(maxsize=64)
def _members(file: Path, size: int, mtime_ns: int) -> tuple[str, ...]:
    with zipfile.ZipFile(file) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def members(file: Path) -> tuple[str, ...]:
    """Names of the arrays. Raises DataError for a missing or broken file."""
    try:
        check_plain(file)
        state = file.stat()
        return _members(file, state.st_size, state.st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(f"{file} is not there", "check the path") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no .npz file that can be read: {error}", "save it again") from error


def opened(file: Path, member: str) -> NDArray[np.generic]:
    """The array, memory-mapped and read-only; safe to share between threads. Raises DataError."""
    try:
        state = file.stat()
        return _mapped(file, member, state.st_size, state.st_mtime_ns)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{file}: {member} cannot be read: {error}", "save the file again") from error
    except ValueError as error:
        raise DataError(
            f"{file}: {member} holds Python objects or is no array",
            "save plain numbers: pickles are never read",
        ) from error


@lru_cache(maxsize=64)
def _mapped(file: Path, member: str, size: int, mtime_ns: int) -> NDArray[np.generic]:
    folder = cache_folder() / "npz" / content_hashes([file])[0][:24]
    unpacked = folder / f"{member.replace('/', '_')}.npy"
    if not unpacked.is_file():
        write_atomic(unpacked, partial(_unpack, file, member))
    array: NDArray[np.generic] = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    return array


def _unpack(file: Path, member: str, target: Path) -> None:
    with (
        zipfile.ZipFile(file) as archive,
        archive.open(f"{member}.npy") as packed,
        open(target, "wb") as plain,
    ):
        check_room(target.parent, archive.getinfo(f"{member}.npy").file_size, f"{file}: {member}")
        shutil.copyfileobj(packed, plain, 1 << 20)
