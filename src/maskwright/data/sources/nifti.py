"""NIfTI volumes (.nii, .nii.gz): each slice along the last axis is an item (`patient@0031`), a volume is one group.

`images/ID.nii.gz` beside `labels/ID.nii.gz`, or `imagesTr/` beside `labelsTr/` as the Medical Decathlon and nnU-Net
name them (`ID_0000.nii.gz` there). A slice is shown as it is stored, its second axis downwards. `window` says which
numbers are black and white (Hounsfield units: [-160, 240] for soft tissue); without it the least and the
greatest of the volume are. Labels must have the grid of their picture: the same shape, spacing and position.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from maskwright.data.arrays import LARGEST
from maskwright.data.classes import IGNORE, Raw
from maskwright.data.fingerprint import content_hashes, recall
from maskwright.data.folders import check_room
from maskwright.data.levels import grey_levels, told_window, whole_numbers, window_told
from maskwright.data.part import Part, needs
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, FaultyError, Pair, filled, in_parts
from maskwright.data.spacing import Spacing
from maskwright.errors import DataError
from maskwright.files import cache_folder, write_atomic

ENDINGS = (".nii.gz", ".nii")
FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"), ("images", "segmentations"))
MOST = 1 << 31
"""Voxels of one volume."""
LONGEST_HEADER = 1 << 24
"""Bytes in front of the voxels."""
_FAULTS = (OSError, ValueError, OverflowError, EOFError, KeyError, zlib.error)


@dataclass(frozen=True)
class Volume:
    """What a header says."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    """Voxel to millimetre, 4 x 4: spacing, direction and position."""


def recognise(root: Path) -> bool:
    return _templates(root) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError where no volumes are found."""
    if config.images is None and config.masks is None:
        found = _templates(root)
        if found is None:
            raise DataError(
                f"{root} holds no volumes: looked for images/*.nii.gz beside labels/*.nii.gz",
                'write images: "FOLDER/{id}.nii.gz" and masks: "FOLDER/{id}.nii.gz" in dataset.yaml',
            )
        config = config.model_copy(update={"images": found[0], "masks": found[1]})
    return filled(folder.complete(root, config), groups="{id:before last @}")


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """Pairs of slices. Raises DataError: no volumes of three axes, labels of another grid."""
    pairs = folder.read(root, config)
    files = [file for pair in pairs for file in (pair.image, pair.mask) if isinstance(file, Path)]
    volumes = dict(zip(files, recall("volume/1", files, _header, what="Reading headers"), strict=True))

    def slices(pair: Pair) -> Iterator[Pair]:
        assert isinstance(pair.image, Path)
        image = _volume(volumes[pair.image])
        if isinstance(pair.mask, Path):
            _check(pair, image, _volume(volumes[pair.mask]))
        for place in range(image.shape[2]):
            shown = Part(pair.image, "slice", str(place), window_told(config.window))
            mask = Part(pair.mask, "slice of labels", str(place)) if isinstance(pair.mask, Path) else None
            yield replace(pair, id=f"{pair.id}@{place:04d}", image=shown, mask=mask)

    return in_parts(pairs, config, slices)


def header(part: Part) -> tuple[int, int, int]:
    _, height, width = _unpacked(part.file).shape
    return height, width, 1


def raw(part: Part) -> Raw:
    """HW uint8."""
    volume = _unpacked(part.file)
    window = told_window(part.told) or _range(part.file)
    return grey_levels(np.asarray(volume[int(part.key)]), window, str(part.file))


def raw_labels(part: Part) -> Raw:
    """HW whole numbers."""
    return whole_numbers(np.asarray(_unpacked(part.file)[int(part.key)]), str(part), IGNORE)


def spacings(files: Sequence[Path]) -> list[Spacing | None]:
    """Of the two axes of a slice, by the length of the affine's columns; None for a file that cannot be read."""
    found: list[Spacing | None] = []
    for fact in recall("volume/1", files, _header, what="Reading headers"):
        if isinstance(fact, DataError):
            found.append(None)
            continue
        rows, columns, _ = np.linalg.norm(np.reshape(_volume(fact).affine, (4, 4))[:3, :3], axis=0).tolist()
        found.append((rows, columns))
    return found


def _templates(root: Path) -> tuple[str, str] | None:
    for images, masks in FOLDERS:
        for ending in ENDINGS:
            names = {path.name.removesuffix(ending) for path in (root / images).glob(f"*{ending}")}
            labels = {path.name.removesuffix(ending) for path in (root / masks).glob(f"*{ending}")}
            for suffix in ("", "_0000"):
                if any(f"{name}{suffix}" in names for name in labels):
                    return f"{images}/{{id}}{suffix}{ending}", f"{masks}/{{id}}{ending}"
    return None


def _header(file: Path) -> list[object]:
    opened = _opened(file)
    shape = opened.shape[:3] if len(opened.shape) == 4 and opened.shape[3] == 1 else opened.shape
    if (
        len(shape) != 3
        or min(shape) < 1
        or int(np.prod(shape, dtype=np.float64)) > MOST
        or shape[0] * shape[1] > LARGEST
    ):
        raise DataError(
            f"{file} has the shape {shape}", f"a volume has three axes and at most {MOST:,} voxels"
        )
    return [list(shape), opened.affine]


def _volume(fact: object) -> Volume:
    if isinstance(fact, DataError):
        raise fact
    shape, affine = cast(tuple[list[int], list[float]], fact)
    return Volume((shape[0], shape[1], shape[2]), tuple(affine))


def _check(pair: Pair, image: Volume, labels: Volume) -> None:
    """Raises FaultyError for labels of another grid."""
    if image.shape != labels.shape:
        raise FaultyError(
            "size-mismatch",
            f"the mask {pair.mask} has the shape {labels.shape} and its image {image.shape}",
            "resample the labels to the picture's grid, or list the id under exclude in dataset.yaml",
            {},
        )
    if not np.allclose(image.affine, labels.affine, rtol=0.01, atol=0.01):
        raise FaultyError(
            "place-mismatch",
            f"the mask {pair.mask} has another spacing, direction or position than its image",
            "resample the labels to the picture's grid, or list the id under exclude in dataset.yaml",
            {},
        )


@dataclass(frozen=True)
class _Stored:
    """How the voxels lie in the file."""

    shape: tuple[int, ...]
    affine: list[float]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float


def _opened(file: Path) -> _Stored:
    """The header's 348 bytes and no more: extensions behind it may claim any size."""
    try:
        import nibabel
    except ImportError as error:
        raise needs("nibabel", "NIfTI", "medical") from error
    try:
        with _bytes(file) as opened:
            header = nibabel.Nifti1Header(opened.read(348))  # type: ignore[no-untyped-call]
        slope, intercept = header.get_slope_inter()  # type: ignore[no-untyped-call]
        stored = _Stored(
            tuple(int(side) for side in header.get_data_shape()),  # type: ignore[no-untyped-call]
            np.asarray(header.get_best_affine(), np.float64).ravel().tolist(),  # type: ignore[no-untyped-call]
            header.get_data_dtype(),  # type: ignore[no-untyped-call]
            int(header["vox_offset"]) or 352,
            1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept),
        )
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
        *_FAULTS,
    ) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{file} is no NIfTI that can be read: {said}", "replace it or leave it out"
        ) from error
    if stored.dtype.kind not in "iuf" or not 352 <= stored.offset <= LONGEST_HEADER:
        raise DataError(
            f"{file} holds {stored.dtype} from byte {stored.offset} on",
            "one number per voxel, behind the header",
        )
    return stored


def _bytes(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb") if file.name.endswith(".gz") else open(file, "rb"))


def _unpacked(file: Path) -> NDArray[np.float32]:
    """The volume, (slice, row, column), unpacked once into the cache and memory-mapped from there. Raises DataError."""
    place = cache_folder() / "volumes" / f"{content_hashes([file])[0][:24]}.npy"
    if not place.is_file():
        write_atomic(place, partial(_unpack, file))
    return cast(NDArray[np.float32], np.load(place, mmap_mode="r", allow_pickle=False))


def _unpack(file: Path, target: Path) -> None:
    """Slice by slice: a packed volume is read once from its beginning to its end."""
    (height, width, slices), stored = _volume(_header(file)).shape, _opened(file)
    check_room(target.parent, 4 * height * width * slices, str(file))
    written = np.lib.format.open_memmap(target, "w+", np.float32, (slices, width, height))
    size = stored.dtype.itemsize * height * width
    try:
        with _bytes(file) as opened:
            opened.read(stored.offset)
            for place in range(slices):
                numbers = np.frombuffer(opened.read(size), stored.dtype).reshape(width, height)
                if (stored.slope, stored.intercept) != (1.0, 0.0):
                    numbers = numbers * stored.slope + stored.intercept
                written[place] = numbers
    except _FAULTS as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is cut short: {said}", "replace it or leave it out") from error
    written.flush()


def _range(file: Path) -> tuple[float, float]:
    """Least and greatest finite number; at least 1 apart."""
    (fact,) = recall("volume range/1", [file], _range_of)
    if isinstance(fact, DataError):
        raise fact
    low, high = cast(list[float], fact)
    return low, max(high, low + 1)


def _range_of(file: Path) -> list[float]:
    volume = _unpacked(file)
    ends = [(float(np.nanmin(part)), float(np.nanmax(part))) for part in map(_finite, volume)]
    return [min(low for low, _ in ends), max(high for _, high in ends)]


def _finite(slice_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    known = slice_HW[np.isfinite(slice_HW)]
    return known if known.size else np.zeros(1, np.float32)
