"""Pictures and masks decoded once into one flat memory-mapped file: what training reads. Evaluation reads originals.

A store is a folder of the cache: `data.bin` holds row after row the C planes of a picture and then its mask, all
uint8; `index.json` says how large each row is and what was counted on the way. Where the data have dense targets,
`dense.bin` holds their planes in the same way, float32. The folder's name is a hash of everything that decides its
content, so a change of the data, of their split or of the size means another folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, UInt8
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from maskwright.config import InputConfig
from maskwright.data.dataset import Dataset, Item
from maskwright.data.folders import build_folder
from maskwright.errors import DataError
from maskwright.files import cache_folder
from maskwright.fit import Fit, fit_dense, fit_images, fit_labels, place
from maskwright.progress import SILENT, Progress
from maskwright.tensors import IGNORE

VERSION: Literal[2] = 2
"""Of the layout on disk and of everything that changes its bytes."""
NAMED = 5
"""Broken items that an error names; the others it counts."""
HOPELESS = 50
"""When so many items at the start are broken, all of them, the mistake is not in the files: stop early."""
MIDDLE = (0.485, 0.456, 0.406)
"""Mean colour of the ILSVRC 2012 training pictures: bars of this colour are 0 after `normalise=imagenet`."""

Normalise: TypeAlias = Literal["unit", "symmetric", "imagenet", "dataset", "image"]
Windows: TypeAlias = Float[np.ndarray, "B 2"]
Planes: TypeAlias = UInt8[np.ndarray, "P H W"]
"""A picture's channels, then its mask."""
Fields: TypeAlias = Float32[np.ndarray, "T H W"]
"""A picture's dense targets, NaN where nothing is known."""
Window: TypeAlias = tuple[slice, slice]
Given = TypeVar("Given")
Made = TypeVar("Made")
Number = TypeVar("Number", np.uint8, np.float32)


class Moments(BaseModel):
    """Of a dense target's known pixels in the train split; without such a split, in all rows."""

    pixels: int
    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Store:
    """Decoded pictures and masks, one row per item, read through the page cache: RAM holds what is in use."""

    folder: Path
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    """The split of each row."""
    channels: int
    size: tuple[int, int]
    fit: Fit
    class_pixels: Int64[np.ndarray, " K"]
    """Mask pixels per class as training sees them, over the train split, IGNORE left out."""
    mean: Float[np.ndarray, " C"]
    deviation: Float[np.ndarray, " C"]
    """Over all pixels of the train split but the bars, pictures in [0, 1]. Without such a split: over all rows."""
    broken: Mapping[str, str]
    """Ids that were left out -> why."""
    heights: Int64[np.ndarray, " N"]
    widths: Int64[np.ndarray, " N"]
    offsets: Int64[np.ndarray, " N"]
    """Where each row begins in `data`."""
    foreground: Int64[np.ndarray, " N"]
    """Mask pixels of each row, as training sees them, that are of another class than 0."""
    data: UInt8[np.ndarray, " bytes"]
    """Memory-mapped, read-only."""
    targets: Mapping[str, Moments] = field(default_factory=dict)
    """The dense targets, in the order of their planes."""
    fields: Float32[np.ndarray, " values"] = field(default_factory=lambda: np.empty(0, np.float32))
    """Their planes, memory-mapped, read-only."""

    def rows(self, split: str) -> Int64[np.ndarray, " B"]:
        """Row numbers of a split, in the data set's order."""
        return np.array([row for row, name in enumerate(self.splits) if name == split], dtype=np.int64)

    def shape(self, row: int) -> tuple[int, int]:
        """(height, width) as stored: `size`; where fit is crop, at least `size`."""
        return int(self.heights[row]), int(self.widths[row])

    def images(
        self, rows_B: Int[np.ndarray, " B"], windows_B2: Windows | None = None
    ) -> UInt8[np.ndarray, "B C H W"]:
        """Copies of these rows' pictures.

        With `windows_B2`, a window of `size` from each: top and left as shares in [0, 1) of the free range.
        Without, whole pictures, which must have equal shapes then (ValueError).
        """
        return self._copy(rows_B, windows_B2, lambda row: self._planes(row)[:-1], self.channels, np.uint8)

    def labels(
        self, rows_B: Int[np.ndarray, " B"], windows_B2: Windows | None = None
    ) -> UInt8[np.ndarray, "B H W"]:
        """The masks that belong to `images` of the same arguments: class ids and IGNORE."""
        return self._copy(rows_B, windows_B2, lambda row: self._planes(row)[-1:], 1, np.uint8)[:, 0]

    def dense(
        self, rows_B: Int[np.ndarray, " B"], names: Sequence[str], windows_B2: Windows | None = None
    ) -> Float32[np.ndarray, "B T H W"]:
        """The dense targets `names` that belong to `images` of the same rows and windows, in their own units."""
        chosen = [list(self.targets).index(name) for name in names]
        return self._copy(rows_B, windows_B2, lambda row: self._fields(row)[chosen], len(chosen), np.float32)

    def _copy(
        self,
        rows_B: Int[np.ndarray, " B"],
        windows_B2: Windows | None,
        planes_of: Callable[[int], NDArray[Number]],
        planes: int,
        kind: type[Number],
    ) -> NDArray[Number]:
        height, width = self.size
        if windows_B2 is None and len(rows_B):
            height, width = self.shape(rows_B[0])
        copies = np.empty((len(rows_B), planes, height, width), kind)
        for index, row in enumerate(rows_B):
            picture = planes_of(row)
            if windows_B2 is not None:
                top = _begin(windows_B2[index, 0], picture.shape[1] - height)
                left = _begin(windows_B2[index, 1], picture.shape[2] - width)
                picture = picture[:, top : top + height, left : left + width]
            if picture.shape[1:] != (height, width):
                raise ValueError("pictures of different shapes need windows to share a batch")
            copies[index] = picture
        return copies

    def _planes(self, row: int) -> Planes:
        height, width = self.shape(row)
        start = self.offsets[row]
        stop = start + (self.channels + 1) * height * width
        return self.data[start:stop].reshape(self.channels + 1, height, width)

    def _fields(self, row: int) -> Fields:
        height, width = self.shape(row)
        start = self.offsets[row] // (self.channels + 1) * len(self.targets)
        stop = start + len(self.targets) * height * width
        return self.fields[start:stop].reshape(len(self.targets), height, width)


class _Index(BaseModel):
    """index.json."""

    version: Literal[2]
    dataset: str
    channels: int
    size: tuple[int, int]
    fit: Fit
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    foreground: tuple[int, ...]
    class_pixels: tuple[int, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    broken: dict[str, str]
    targets: dict[str, Moments] = {}

    def ends(self) -> Int64[np.ndarray, " N"]:
        """Where in data.bin each row ends."""
        return np.cumsum((self.channels + 1) * np.array(self.shapes, np.int64).prod(axis=1))

    def dense_values(self) -> int:
        """Numbers in dense.bin."""
        return int(self.ends()[-1]) // (self.channels + 1) * len(self.targets)


@dataclass(frozen=True)
class _Row:
    """One decoded item, and what was counted in it."""

    planes: Planes
    window: Window
    """Rows and columns of the picture; the rest is bars."""
    levels: Int64[np.ndarray, "C 256"]
    """How often each grey level occurs."""
    pixels: Int64[np.ndarray, "256"]
    """How often each label occurs."""
    fields: Fields


@dataclass(frozen=True)
class StoreInfo:
    """What `maskwright cache` shows of a store."""

    folder: Path
    dataset: str
    images: int
    size: tuple[int, int]
    fit: Fit
    bytes: int


def prepare(
    dataset: Dataset,
    input: InputConfig,
    *,
    splits: Sequence[str] = ("train", "validation"),
    workers: int = 0,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Store:
    """The store of these splits; built first where the cache does not hold it.

    fit resize and letterbox: every row has `input.size`. fit crop: rows keep their native size, smaller ones are
    padded to `input.size`. Bars have the colour that normalises to 0, in masks IGNORE. Pictures are resampled in
    float exactly as `fit` does it for prediction, then rounded to 8 bits; masks are never interpolated, and dense
    targets as `fit_dense` says.

    `workers` threads decode (0: one per CPU); RAM holds two pictures per thread. Raises DataError when items cannot
    be read, naming up to five and the total; `skip_broken` leaves them out and records them in `Store.broken`.
    """
    channels = dataset.channels() if input.channels == "auto" else input.channels
    items = [item for name in splits for item in dataset.split(name)]
    if not items:
        raise DataError(
            f"{dataset.root} has no pictures in {' and '.join(splits)}", "see `maskwright data show`"
        )
    folder = _stores() / _key(dataset, splits, input, channels)
    if _read_index(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)  # damaged by hand: what we build is whole or not there
        build_folder(
            folder,
            lambda partial: _build(
                partial, dataset, items, input, channels, workers or _cpus(), skip_broken, progress
            ),
        )
    store = _open(folder)
    if store.broken and not skip_broken:
        raise _broken_error([DataError(reason) for reason in store.broken.values()], f"of {len(items)}")
    return store


def list_stores() -> list[StoreInfo]:
    """The whole stores of the cache."""
    found = [(folder, _read_index(folder)) for folder in sorted(_stores().glob("*"))]
    return [
        StoreInfo(
            folder,
            index.dataset,
            len(index.ids),
            index.size,
            index.fit,
            int(index.ends()[-1]) + 4 * index.dense_values(),
        )
        for folder, index in found
        if index is not None
    ]


def clean_stores() -> int:
    """Remove all stores, whole or not; the bytes that this frees."""
    freed = sum(path.stat().st_size for path in _stores().rglob("*") if path.is_file())
    shutil.rmtree(_stores(), ignore_errors=True)
    return freed


def _begin(share: float, free: int) -> int:
    """Where a window begins, of free + 1 equally likely places; `share` may round up to 1."""
    return min(int(share * (free + 1)), free)


def _stores() -> Path:
    return cache_folder() / "stores"


def _key(dataset: Dataset, splits: Sequence[str], input: InputConfig, channels: int) -> str:
    """A hash of everything that decides the bytes of a store; the bars' colour follows `normalise`."""
    bars = None if input.fit == "resize" else input.normalise
    decides = [VERSION, dataset.fingerprint(), splits, input.size, input.fit, channels, bars]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:20]


def _cpus() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _build(
    folder: Path,
    dataset: Dataset,
    items: Sequence[Item],
    input: InputConfig,
    channels: int,
    workers: int,
    skip_broken: bool,
    progress: Progress,
) -> None:
    """Write data.bin and index.json. Threads decode; this one writes rows in order, as they come."""
    counted = "train" if any(item.split == "train" for item in items) else items[0].split
    levels, pixels = np.zeros((channels, 256), np.int64), np.zeros(256, np.int64)
    kept: list[Item] = []
    shapes: list[tuple[int, int]] = []
    windows: list[Window] = []
    foreground: list[int] = []
    broken: dict[str, DataError] = {}
    moments: dict[str, list[Moments]] = {name: [] for name in dataset.targets}
    with (
        open(folder / "data.bin", "wb") as data,
        open(folder / "dense.bin", "wb") if dataset.targets else nullcontext() as dense,
        progress.task("Decoding", len(items)) as advance,
        closing(_in_order(lambda item: _decode(dataset, item, input, channels), items, workers)) as rows,
    ):
        for item, row in zip(items, rows, strict=True):
            if isinstance(row, DataError):
                broken[item.id] = row
                if len(broken) == HOPELESS and not kept:
                    raise _broken_error(list(broken.values()), f"of the first {HOPELESS}")
            else:
                data.write(row.planes.data)
                if dense is not None:
                    dense.write(row.fields.data)
                kept.append(item)
                shapes.append((row.planes.shape[1], row.planes.shape[2]))
                windows.append(row.window)
                foreground.append(int(row.pixels[1 : len(dataset.classes)].sum()))
                if item.split == counted:
                    levels += row.levels
                    pixels += row.pixels
                    for name, plane in zip(dataset.targets, row.fields, strict=True):
                        moments[name].append(_moments_of(plane))
            advance(1)
    if broken and not (skip_broken and kept):
        raise _broken_error(list(broken.values()), f"of {len(items)}")
    mean, deviation = _moments(levels)
    _paint_bars(folder / "data.bin", shapes, windows, _bar_colour(input.normalise, mean))
    index = _Index(
        version=VERSION,
        dataset=dataset.name,
        channels=channels,
        size=input.size,
        fit=input.fit,
        ids=tuple(item.id for item in kept),
        splits=tuple(item.split for item in kept),
        shapes=tuple(shapes),
        foreground=tuple(foreground),
        class_pixels=tuple(pixels[: len(dataset.classes)].tolist()),
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        broken={name: str(error) for name, error in broken.items()},
        targets={name: _together(parts) for name, parts in moments.items()},
    )
    (folder / "index.json").write_text(index.model_dump_json(), encoding="utf-8")


def _in_order(
    make: Callable[[Given], Made], given: Iterable[Given], workers: int
) -> Generator[Made, None, None]:
    """`map` in threads, never more than two results per thread ahead of the reader."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Made]] = deque()
        for one in given:
            pending.append(pool.submit(make, one))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decode(dataset: Dataset, item: Item, input: InputConfig, channels: int) -> _Row | DataError:
    """One row, or why there is none."""
    try:
        picture_CHW = torch.tensor(dataset.image(item, channels)).permute(2, 0, 1)
        mask_HW = torch.tensor(dataset.mask(item))
        known = [torch.tensor(dataset.dense(item, name)) for name in dataset.targets]
    except DataError as error:
        named = item.id in error.problem
        return error if named else DataError(f"{item.id}: {error.problem}", error.hint)
    except OSError as error:
        return DataError(f"{item.id} cannot be read: {error.strerror or error}")
    placement = place((mask_HW.shape[0], mask_HW.shape[1]), input.size, input.fit)
    inner = (placement.height, placement.width)
    fitted_CHW = fit_images(picture_CHW[None].float(), inner, "resize")[0].round_().byte().numpy()
    labels_HW = fit_labels(mask_HW[None], inner, "resize")[0].numpy()
    height, width = (max(side, least) for side, least in zip(inner, input.size, strict=True))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    window = (slice(top, top + inner[0]), slice(left, left + inner[1]))
    planes = np.full((channels + 1, height, width), IGNORE, np.uint8)
    planes[:channels, *window], planes[channels, *window] = fitted_CHW, labels_HW
    levels = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in fitted_CHW])
    fields = np.full((len(known), height, width), np.nan, np.float32)
    if known:
        fields[:, *window] = fit_dense(torch.stack(known)[None], inner, "resize")[0].numpy()
    return _Row(planes, window, levels, np.bincount(labels_HW.ravel(), minlength=256), fields)


def _moments(
    levels_C256: Int64[np.ndarray, "C 256"],
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Mean and standard deviation per channel, grey level 255 being 1."""
    shares = levels_C256 / levels_C256.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = shares @ values
    return mean, np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))


def _moments_of(plane_HW: Float32[np.ndarray, "H W"]) -> Moments:
    known = plane_HW[~np.isnan(plane_HW)].astype(np.float64)
    if not known.size:
        return Moments(pixels=0, mean=0.0, deviation=0.0)
    return Moments(pixels=known.size, mean=float(known.mean()), deviation=float(known.std()))


def _together(parts: Sequence[Moments]) -> Moments:
    """Of all pixels, from those of each picture: within and between them (Chan, Golub & LeVeque 1983)."""
    pixels = np.array([part.pixels for part in parts])
    total = int(pixels.sum())
    shares = pixels / max(total, 1)
    means, deviations = np.array([(part.mean, part.deviation) for part in parts]).reshape(-1, 2).T
    mean = float(shares @ means)
    variance = float(shares @ (deviations**2 + (means - mean) ** 2))
    return Moments(pixels=total, mean=mean, deviation=variance**0.5)


def _bar_colour(normalise: Normalise, mean_C: Float[np.ndarray, " C"]) -> UInt8[np.ndarray, " C"]:
    """What normalises to 0 (`image`: mid-grey), as Preprocess.fill has it, in 8 bits."""
    grey = sum(MIDDLE) / 3
    imagenet = np.array([*MIDDLE, grey] if len(mean_C) >= 3 else [grey])[: len(mean_C)]
    colours = {"unit": 0 * mean_C, "imagenet": imagenet, "dataset": mean_C}
    return np.round(255 * colours.get(normalise, 0 * mean_C + 0.5)).astype(np.uint8)


def _paint_bars(
    path: Path,
    shapes: Sequence[tuple[int, int]],
    windows: Sequence[Window],
    colour_C: UInt8[np.ndarray, " C"],
) -> None:
    """Give the bars of all pictures their colour: it may depend on the mean, which is known only at the end."""
    channels, start = len(colour_C), 0
    with open(path, "rb+") as data:
        for (height, width), window in zip(shapes, windows, strict=True):
            length = (channels + 1) * height * width
            bars = np.ones((height, width), bool)
            bars[window] = False
            if bars.any():
                data.seek(start)
                planes = np.frombuffer(data.read(length), np.uint8).reshape(-1, height, width).copy()
                planes[:channels, bars] = colour_C[:, None]
                data.seek(start)
                data.write(planes.data)
            start += length


def _broken_error(broken: Sequence[DataError], total: str) -> DataError:
    """One error for all of them. Advice that the named ones share comes first."""
    named, hints = broken[:NAMED], {error.hint for error in broken[:NAMED]}
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    advice = hints.pop() if len(hints) == 1 else ""
    return DataError(
        f"{len(broken)} {total} pictures cannot be used: {'; '.join(error.problem for error in named)}{more}",
        f"{advice or 'mend them'}, or leave them out with --skip-broken",
    )


def _read_index(folder: Path) -> _Index | None:
    """The index of a whole store."""
    try:
        index = _Index.model_validate_json((folder / "index.json").read_bytes())
        whole = (folder / "data.bin").stat().st_size == index.ends()[-1]
        if index.targets:
            whole = whole and (folder / "dense.bin").stat().st_size == 4 * index.dense_values()
    except (OSError, ValidationError):
        return None
    return index if whole and ".partial-" not in folder.name else None


def _open(folder: Path) -> Store:
    index = _read_index(folder)
    if index is None:
        raise DataError(f"the store {folder} vanished while it was opened", "start again")
    heights, widths = np.array(index.shapes, np.int64).T
    return Store(
        folder=folder,
        ids=index.ids,
        splits=index.splits,
        channels=index.channels,
        size=index.size,
        fit=index.fit,
        class_pixels=np.array(index.class_pixels, np.int64),
        mean=np.array(index.mean),
        deviation=np.array(index.deviation),
        broken=index.broken,
        heights=heights,
        widths=widths,
        offsets=np.concatenate([[0], index.ends()[:-1]]),
        foreground=np.array(index.foreground, np.int64),
        data=np.asarray(np.memmap(folder / "data.bin", np.uint8, "r")),
        targets=index.targets,
        fields=np.asarray(np.memmap(folder / "dense.bin", np.float32, "r"))
        if index.targets
        else np.empty(0, np.float32),
    )
