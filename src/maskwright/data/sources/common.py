"""What every layout shares: the keys of dataset.yaml, one pair of image and mask, names of splits."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskwright.config import suggest
from maskwright.data.part import Part
from maskwright.data.tiles import Piece
from maskwright.errors import ConfigError, DataError

SPLITS = ("train", "validation", "test", "unlabelled")

Box: TypeAlias = tuple[
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=1)],
    Annotated[int, Field(ge=1)],
]
"""Top, left, height, width, in pixels of the picture."""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}
SPLIT_FOLDERS = tuple(name for name in _SPLIT_NAMES if name != "trainval")
"""Names of sub-folders, in lower case, that are taken for splits."""


_SHORT = reprlib.Repr()
"""YAML of a few lines can mean thousands of millions of names."""
_SHORT.maxlevel, _SHORT.maxstring = 2, 80


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ValidationConfig(_Keys):
    """How the validation set is drawn, stratified by foreground share, groups kept whole."""

    from_: Annotated[str, Field(alias="from")] = "train"
    """The split of `splits` it is taken from; what is left becomes train."""
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validation instead of a fraction: train and validation pooled and cut into so many parts."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Which part is the validation set."""


class DataConfig(_Keys):
    """dataset.yaml."""

    path: str = "."
    """Root; other paths are relative to it. In a file, relative to the file's folder."""
    format: str = "folder"
    images: str | None = None
    """Template with {id} and, where sub-folders are splits, {split}; `.*` stands for any image ending."""
    masks: str | None = None
    targets: Mapping[str, str] | None = None
    """Dense targets: name -> template with {id} and, as images has it, {split}, of grey images or .npy arrays."""
    classes: tuple[str, ...] | None = None
    values: Mapping[int | str, str] | None = None
    """Raw value, "#rrggbb" or, where the format has names, label -> class or `ignore`; `values_file` otherwise."""
    values_file: str | None = None
    """Table of names and colours (`label:r,g,b::`, `name,r,g,b` or `r g b name`) that gives classes and values."""
    bands: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """geotiff: the bands that are channels, from 1; the first three, or the first, without it."""
    tile: Annotated[int, Field(ge=16)] | None = None
    """geotiff: side of the tiles into which rasters are cut, in pixels; those of over 4096 x 4096 always are."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """geotiff: pixels that neighbouring tiles share at least; an eighth of `tile` without it."""
    block: Annotated[int, Field(ge=16)] | None = None
    """geotiff: largest side of the parts of a raster that are scored as one picture and that no tile leaves."""
    window: tuple[float, float] | None = None
    """Numbers that are black and white (geotiff, tiff-stack, nifti, dicom); what lies outside is cut off."""
    crowds: Literal["ignore", "objects"] | None = None
    """coco: what `iscrowd: 1` means; not known, as COCO says, or objects like others."""
    splits: Mapping[str, str | tuple[str, ...]] | None = None
    """Split -> file with a list of ids, ids, or (where images has {split}) a folder; npz: an .npz file."""
    validation: ValidationConfig | None = None
    groups: str = "{id}"
    """{id}, {id:before _}, {id:before last _}, or a CSV file `id,group`."""
    exclude: tuple[str, ...] = ()
    ignore: Mapping[str, tuple[Box, ...]] | None = None
    """Id -> boxes of its mask that count nowhere, where the triage of labels found the label wrong."""
    fingerprint: str | None = None
    """Of the run that wrote the file: opening tells when the data have changed since."""


@dataclass(frozen=True)
class Frame:
    """One picture or mask inside an .npz: `file[member][row]`, or `file[member][row, plane]`."""

    file: Path
    member: str
    row: int
    plane: int | None = None


Place: TypeAlias = Path | Frame | Part
"""Where a picture or a mask lies: a file, a row of an array, or a part of a file that a reader knows."""


@dataclass(frozen=True)
class Pair:
    """What a layout lists. `origin` is the split's name as the layout has it (`trainval`, `val`)."""

    id: str
    origin: str
    image: Place
    mask: Place | None
    targets: tuple[Path | None, ...] = ()
    """In the order of `DataConfig.targets`."""
    piece: Piece | None = None
    """Of a tile: the picture that it is cut from and scored in."""


class FaultyError(DataError):
    """Items that all have the same fault: an audit lists them and goes on without them."""

    def __init__(self, finding: str, problem: str, hint: str, cases: Mapping[str, str]) -> None:
        super().__init__(problem, hint)
        self.finding = finding
        """What an audit calls it."""
        self.cases = dict(cases)
        """Id -> what is wrong with it."""


class Source(Protocol):
    """A layout: a module of this package."""

    def recognise(self, root: Path) -> bool:
        """Whether a folder without dataset.yaml has this layout."""
        ...

    def complete(self, root: Path, config: DataConfig) -> DataConfig:
        """Fill in what the layout decides and dataset.yaml left out. Raises DataError."""
        ...

    def read(self, root: Path, config: DataConfig) -> tuple[Pair, ...]:
        """All pairs in a fixed order. Raises DataError for missing files and masks."""
        ...


def in_parts(
    pairs: Sequence[Pair], config: DataConfig, parts_of: Callable[[Pair], Iterable[Pair]]
) -> tuple[Pair, ...]:
    """The slices, pages or tiles of all pairs; a file that is excluded as a whole is one pair, without its mask.

    Raises FaultyError about all other files that have the same fault as the first that has any.
    """
    made, faults = list[Pair](), dict[str, FaultyError]()
    for pair in pairs:
        excluded, parts = pair.id in config.exclude, list[Pair]()
        try:
            parts = list(parts_of(pair))
        except DataError as error:
            if not excluded:
                told = error.finding if isinstance(error, FaultyError) else "unreadable"
                faults[pair.id] = FaultyError(told, error.problem, error.hint, {})
        whole = excluded and [part.id for part in parts] != [pair.id]
        made += [replace(pair, mask=None)] if whole else parts
    if faults:
        first = next(iter(faults.values()))
        same = {name: error for name, error in faults.items() if error.finding == first.finding}
        alike = {
            name: str(error) if error.finding == "unreadable" else error.problem
            for name, error in same.items()
        }
        more = f", and {len(alike) - 1} more are like that" if len(alike) > 1 else ""
        raise FaultyError(first.finding, first.problem + more, first.hint, alike)
    return tuple(made)


def parse_config(values: Mapping[str, object], source: str) -> DataConfig:
    """The mapping of a dataset.yaml -> DataConfig. Raises ConfigError; unknown keys are told the nearest."""
    _refuse_unknown(values, list(DataConfig.model_fields), source)
    validation = values.get("validation")
    if isinstance(validation, Mapping):
        _refuse_unknown(validation, ["from", "fraction", "seed", "folds", "fold"], f"validation in {source}")
    try:
        config = DataConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{key}: {_SHORT.repr(first['input'])} in {source}: {first['msg']}",
            "put it in quotes: to YAML, yes, no, on, off and 007 are no text"
            if first["type"] == "string_type" and isinstance(first["input"], bool | int | float)
            else "compare with dataset.yaml in the guide",
        ) from error
    for name in config.splits or {}:
        split_name(name, source)
    _check_below(config, source)
    for name, template in (config.targets or {}).items():
        _check_target(name, template, source)
    return config


def _check_below(config: DataConfig, source: str) -> None:
    """Raises ConfigError for names that lead out of the root: a stranger's dataset.yaml might show one's own files."""
    named: dict[str, object] = {"images": config.images, "masks": config.masks}
    named |= {"values_file": config.values_file, "groups": None if "{" in config.groups else config.groups}
    named |= {f"splits: {name}": told for name, told in (config.splits or {}).items()}
    for key, name in named.items():
        path = PurePosixPath(str(name or "").replace("\\", "/"))
        if isinstance(name, str) and (
            path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name) or "\0" in name
        ):
            raise ConfigError(
                f"{key}: {name!r} in {source} does not stay below the root",
                "let path name a folder above all files, and the others below it",
            )


def _check_target(name: str, template: str, source: str) -> None:
    """Raises ConfigError: the name becomes a recipe key and a column, the template must stay below the root."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{source} names a target {name!r}", "use small letters, digits and '_'")
    path = PurePosixPath(template.replace("\\", "/"))
    if "{id}" not in template or path.is_absolute() or ".." in path.parts or ":" in template:
        raise ConfigError(
            f"targets: {name}: {template} in {source} is no template below the root",
            f'write targets: {{{name}: "{name}/{{id}}.png"}}',
        )


def _refuse_unknown(values: Mapping[str, object], known: list[str], source: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{source} has an unknown key {key!r}", suggest(str(key), known))


def split_name(name: str, source: str) -> str:
    """`val` -> `validation`, `trainval` -> `train`. Raises ConfigError."""
    if name.lower() not in _SPLIT_NAMES:
        raise ConfigError(f"{source} names a split {name!r}", suggest(name, list(_SPLIT_NAMES)))
    return _SPLIT_NAMES[name.lower()]


def filled(config: DataConfig, **defaults: object) -> DataConfig:
    """`config` with `defaults` where it says nothing."""
    said = config.model_fields_set
    return config.model_copy(
        update={
            key: value for key, value in defaults.items() if key not in said or getattr(config, key) is None
        }
    )


def check_id(name: str, source: str) -> str:
    """An id from a list becomes a path: it must stay below the root. Raises DataError."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name or "\0" in name:
        raise DataError(f"{source} holds the id {name!r}", "ids are names below the root: no .., no drive")
    return name


def closest(name: str, known: list[str]) -> str:
    """`, is it cat_1?` or nothing."""
    found = difflib.get_close_matches(name, known[:10_000], n=1)
    return f", is it {found[0]}?" if found else ""


def few(names: Sequence[str], shown: int = 3) -> str:
    """`a, b, c and 7 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
