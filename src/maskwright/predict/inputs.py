"""Files, folders and globs -> the pictures to predict, each with the names of what is written for it."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.image_io import ENDINGS
from maskwright.data.part import Part
from maskwright.data.sources import tiff_stack
from maskwright.data.sources.geotiff import is_raster
from maskwright.errors import DataError
from maskwright.predict.encode import RASTER_TAILS, TAILS, Kind


@dataclass(frozen=True)
class Job:
    """A picture to predict, and what becomes of it."""

    source: Path
    name: str
    """Below the folder or the fixed part of the glob that it was found in; no two jobs of a call have the same."""
    targets: Mapping[Kind, Path]
    raster: bool = False
    """Read in windows, and written as rasters are."""
    page: Part | DataError | None = None
    """Of a stack of pages, each of which is a picture; or why it cannot be read."""


def plan(
    out: Path,
    inputs: Sequence[str | Path],
    save: Sequence[Kind],
    *,
    rasters: bool = False,
    ours: Collection[str] = (),
) -> list[Job]:
    """Every picture that `inputs` name, once, with the files to write. Raises DataError.

    A TIFF of several pages is as many pictures. With `rasters`, a GeoTIFF is told from other pictures. ours: files that
    earlier calls wrote, below `out`; found in a folder or by a glob, they are no pictures.
    """
    written = {(out / name).resolve() for name in ours}
    sources = {
        path.resolve(): (path, name)
        for given in inputs
        for path, name in _find(given)
        if path.resolve() not in written or path == Path(given)
    }
    wholes = {path for path, _ in sources.values() if rasters and is_raster(path)}
    stacks = tiff_stack.stacks([path for path, _ in sources.values() if path not in wholes])
    pictures = [each for path, name in sources.values() for each in _pages(path, name, stacks.get(path))]
    # Casefold: on many disks A.png and a.png are one file.
    stems = Counter(str(name.with_suffix("")).casefold() for _, name, _ in pictures)
    jobs: list[Job] = []
    taken: dict[str, Path] = {}
    for path, name, page in pictures:
        base = name if stems[str(name.with_suffix("")).casefold()] > 1 else name.with_suffix("")
        raster = path in wholes
        tails = TAILS | RASTER_TAILS if raster else TAILS
        kinds = dict.fromkeys(("mask", *save)) if raster and "polygons" in save else save  # traced from it
        targets = {kind: out / base.with_name(base.name + tails[kind]) for kind in kinds if kind in tails}
        for target in targets.values():
            if target.resolve() in sources:
                raise DataError(f"{target} is a picture and would be overwritten", "choose another --out")
        # Behind the slash, which no path ends with, stands what tables call the picture.
        for place in (*targets.values(), f"{name}/"):
            other = taken.setdefault(str(place).casefold(), path)
            if other != path:
                raise DataError(
                    f"{other} and {path} would both be written to {str(place).rstrip('/')}",
                    "predict them separately, each into an --out of its own",
                )
        jobs.append(Job(path, name.as_posix(), targets, raster, page))
    return jobs


def _pages(
    path: Path, name: Path, stack: tuple[Part, ...] | DataError | None
) -> list[tuple[Path, Path, Part | DataError | None]]:
    """(file, name, page) of each picture in a file; the pages of `cell.tif` are `cell@0000.tif` and so on."""
    if not isinstance(stack, tuple):
        return [(path, name, stack)]
    return [
        (path, name.with_name(tiff_stack.page_name(name.stem, place) + name.suffix), page)
        for place, page in enumerate(stack)
    ]


def _find(given: str | Path) -> list[tuple[Path, Path]]:
    """(picture, name to keep below the output folder) of a file, a folder or a glob. Raises DataError."""
    path = Path(given)
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in ENDINGS)
        pictures = [(entry, Path(entry.name)) for entry in inside if not entry.name.startswith(".")]
        if not pictures:
            deeper = (entry.suffix for entry in path.rglob("*.*") if entry.suffix.lower() in ENDINGS)
            hint = f"a glob reaches deeper: '{path}/**/*{ending}'" if (ending := next(deeper, "")) else ""
            raise DataError(f"{path} holds no pictures", hint or f"it may have any of {', '.join(ENDINGS)}")
        return pictures
    if glob.has_magic(str(given)):
        fixed = Path(*_before_magic(path))
        found = sorted(Path(match) for match in glob.glob(str(given), recursive=True))
        pictures = [(match, match.relative_to(fixed)) for match in found if match.is_file()]
        if pictures:
            return pictures
        raise DataError(
            f"nothing matches {given}", "quote the pattern, and mind that ** must stand between slashes"
        )
    raise DataError(f"there is no file {path}", "give files, folders or quoted globs")


def _before_magic(pattern: Path) -> list[str]:
    """The leading parts of a glob that are plain folders."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts
