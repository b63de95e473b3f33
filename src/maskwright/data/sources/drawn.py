"""What the layouts with drawn masks share: pictures found by name below the root, sizes that can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from maskwright.data.arrays import LARGEST
from maskwright.data.image_io import ENDINGS
from maskwright.data.sources.common import DataConfig, FaultyError, Pair, check_id, few
from maskwright.errors import ConfigError, DataError


def size_of(height: object, width: object, where: str) -> tuple[int, int]:
    """Raises DataError for a size that no picture has."""
    whole = [side for side in (height, width) if isinstance(side, int | float) and side == side // 1 > 0]
    if len(whole) != 2 or whole[0] * whole[1] > LARGEST:
        raise DataError(
            f"{where} claims {str(height)[:20]} x {str(width)[:20]} pixels",
            f"height and width are whole numbers, at most {LARGEST:,} pixels",
        )
    return int(whole[0]), int(whole[1])


def stem(name: str) -> str:
    """The name without the ending of a picture."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.with_suffix("").as_posix() if path.suffix.lower() in ENDINGS else path.as_posix()


def below(root: Path, folder: str, name: str, source: str) -> Path:
    """The file `name`, as `source` calls it, in `folder` of the root. Raises DataError where it leads out."""
    return root / folder / check_id(name.replace("\\", "/"), source)


def present(pairs: Sequence[Pair], config: DataConfig, source: str) -> list[Pair]:
    """The pairs whose pictures are there. Raises FaultyError where others are missing and not excluded."""
    excluded = set(config.exclude)
    missing = [pair for pair in pairs if isinstance(pair.image, Path) and not pair.image.is_file()]
    told = [pair for pair in missing if pair.id not in excluded]
    if told:
        raise FaultyError(
            "missing-pictures",
            f"{len(told)} of {len(pairs)} pictures of {source} are not there ({few([str(p.image) for p in told])})",
            "say in dataset.yaml where they are (images: FOLDER), or list the ids under exclude",
            {pair.id: f"{pair.image} is not there" for pair in told},
        )
    gone = {pair.id for pair in missing}
    return [pair for pair in pairs if pair.id not in gone]


def unique(parts: Iterable[tuple[str, Pair]], config: DataConfig) -> list[Pair]:
    """Pairs of (split, pair), with the split in front of the ids where two splits use the same.

    Raises FaultyError for pictures that are listed twice and not excluded.
    """
    listed = list(parts)
    if len({pair.id for _, pair in listed}) < len({(split, pair.id) for split, pair in listed}):
        listed = [(split, replace(pair, id=f"{split}/{pair.id}")) for split, pair in listed]
    seen, twice = dict[str, Pair](), dict[str, str]()
    for _, pair in listed:
        if seen.setdefault(pair.id, pair) is not pair and pair.id not in config.exclude:
            twice[pair.id] = f"{pair.image} is listed twice"
    if twice:
        raise FaultyError(
            "duplicate-ids", few(list(twice.values()), 1), "keep one entry per picture, with one mask", twice
        )
    return list(seen.values())


def without_masks(config: DataConfig, form: str, advice: str) -> None:
    """Raises ConfigError for keys that the layout does not have."""
    if config.masks is not None:
        raise ConfigError(f"masks is given for the format {form}", advice)


def no_targets(config: DataConfig, form: str) -> None:
    """Raises ConfigError: dense targets are paired by templates, which these layouts do not have."""
    if config.targets:
        raise ConfigError(
            f"targets is given for the format {form}", "dense targets are files, beside images in a folder"
        )
