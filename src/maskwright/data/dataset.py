"""Dataset: dataset.yaml or a bare folder in, rows of (id, picture, mask, split, group) out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from zipfile import is_zipfile

import numpy as np
import yaml
from numpy.typing import NDArray

from maskwright.config import suggest
from maskwright.data import spacing
from maskwright.data.boxes import count_without, ignored_boxes, without_boxes
from maskwright.data.classes import IGNORE, ClassMap, Colour, class_map
from maskwright.data.documents import read_yaml
from maskwright.data.fingerprint import content_hashes, digest, recall
from maskwright.data.image_io import dense_size, is_dark, read_dense
from maskwright.data.part import Part
from maskwright.data.places import (
    array_of,
    files_of,
    headers,
    inside,
    picture_size,
    read_picture,
    read_raw,
    row_digests,
    size_error,
    where,
)
from maskwright.data.sources import (
    camvid,
    coco,
    cvat,
    dicom,
    folder,
    geotiff,
    label_studio,
    labelme,
    nifti,
    npz,
    oxford_pet,
    tiff_stack,
    voc,
    yolo,
)
from maskwright.data.sources.common import (
    Box,
    DataConfig,
    FaultyError,
    Frame,
    Pair,
    Place,
    Source,
    ValidationConfig,
    few,
    parse_config,
    split_name,
)
from maskwright.data.split import assign_splits, groups_of, straddling
from maskwright.data.tiles import Piece, covered
from maskwright.data.truths import (
    all_facts,
    check_sizes,
    coloured_values,
    count_pixels,
    foreground,
    with_classes,
    with_table,
)
from maskwright.errors import ConfigError, DataError
from maskwright.progress import SILENT, Progress

if TYPE_CHECKING:
    from maskwright.tensors import Field, Mask, Picture

FORMATS: dict[str, Source] = {
    "oxford-pet": oxford_pet,
    "camvid": camvid,
    "cvat": cvat,
    "voc": voc,
    "coco": coco,
    "yolo": yolo,
    "labelme": labelme,
    "label-studio": label_studio,
    "nifti": nifti,
    "dicom": dicom,
    "npz": npz,
    "geotiff": geotiff,
    "tiff-stack": tiff_stack,
    "folder": folder,
}
"""In the order in which a bare folder is tried."""

LARGEST_YAML = 1 << 24
"""Bytes of a dataset.yaml, which may list ids."""

LOOKED_AT = 8
"""Pictures that are decoded when a data set is opened."""

_DRAWN = ("coco", "yolo", "labelme", "label-studio")

_COLOURS: dict[tuple[str, ...], tuple[Colour, ...]] = {camvid.CLASSES: camvid.COLOURS}
"""Names of classes -> the colours that their authors gave them."""


@dataclass(frozen=True)
class Item:
    """One picture and its truth."""

    id: str
    image: Place
    mask: Place | None
    split: str
    """train, validation, test or unlabelled (no mask)."""
    group: str
    """Items of one group (patient, video) resemble each other; its own id where nothing is known."""
    targets: tuple[Path | None, ...] = ()
    """In the order of `Dataset.targets`; None, where it has no file, only in test and unlabelled."""
    ignored: tuple[Box, ...] = ()
    """Boxes of the mask that count nowhere."""
    piece: Piece | None = None
    """Of a tile: where it lies in the picture that it is scored in."""
    tiles: tuple[Piece, ...] = ()
    """Of a picture that `Dataset.scored` put together: its tiles, which go through a network one by one."""


@dataclass(frozen=True)
class Dataset:
    """Rows in a fixed order, and what their masks mean."""

    root: Path
    format: str
    name: str
    classes: ClassMap
    items: tuple[Item, ...]
    grouped: bool
    """Whether groups were given; otherwise each picture is its own."""
    source: Mapping[str, object]
    """The resolved dataset.yaml: opening it gives these items and splits again."""
    advice: tuple[str, ...] = ()
    """One line per thing that is allowed but worth knowing."""
    targets: tuple[str, ...] = ()
    """Names of the dense targets."""
    pixels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)
    """Item id -> pixels per class [K], ignored ones left out; no entry where a mask is missing or broken."""

    def split(self, name: str) -> tuple[Item, ...]:
        """The items of train, validation, test or unlabelled. Raises ConfigError for another name."""
        wanted = split_name(name, "the command")
        return tuple(item for item in self.items if item.split == wanted)

    def scored(self, name: str) -> tuple[Item, ...]:
        """The same as they are scored: tiles as the one picture that they are cut from, others as they are.

        Training knows tiles; a score of tiles would cut contours and objects at every border. Raises ConfigError.
        """
        together: dict[str, list[Item]] = {}
        for item in self.split(name):
            together.setdefault(item.id if item.piece is None else item.piece.whole, []).append(item)
        return tuple(_whole(id, parts) for id, parts in together.items())

    def image(self, item: Item, channels: int) -> Picture:
        """HWC uint8, upright, with 1, 3 or 4 channels. Raises DataError."""
        return read_picture(item.image, channels)

    def mask(self, item: Item) -> Mask:
        """HW uint8 class ids, IGNORE where nothing is known, and where a picture in tiles lacks one (left out, or of
        another split). Raises DataError: no mask, size, unlisted values.
        """
        if item.mask is None:
            raise DataError(f"{item.id} has no mask", "choose a labelled split")
        raw = read_raw(item.mask, self.classes.coloured)
        ids = self.classes.encode(raw, where(item.mask))
        if ids.shape != (size := self.size(item)):
            raise size_error([(item.id, ids.shape, size)])
        if item.tiles:
            ids = np.where(covered(size, item.tiles), ids, np.uint8(IGNORE))
        return without_boxes(ids, item.ignored)

    def dense(self, item: Item, target: str) -> Field:
        """HW float32, NaN where nothing is known. Raises DataError: unreadable, more than one channel, size."""
        place, size = item.targets[self.targets.index(target)], self.size(item)
        if place is None:
            return np.full(size, np.nan, np.float32)
        field = read_dense(place)
        if field.shape != size:
            raise size_error([(str(place), field.shape, size)], "target")
        return field

    def size(self, item: Item) -> tuple[int, int]:
        """(height, width) of the picture, upright, without decoding it."""
        return picture_size(item.image)

    def channels(self) -> int:
        """1 where all training pictures (or, without any, all pictures) are grey, otherwise 3."""
        found = headers([item.image for item in self.split("train") or self.items], SILENT)
        return max((header[2] for header in found if header is not None), default=3)

    def class_pixels(self, split: str) -> NDArray[np.int64]:
        """Labelled pixels per class [K] in a split."""
        total = np.zeros(len(self.classes), np.int64)
        for item in self.split(split):
            total += self.pixels.get(item.id, 0)
        return total

    def fingerprint(self) -> str:
        """16 hex digits of the contents of all files, the ids, splits, groups and the meaning of the masks.

        The place of the files does not matter. Raises DataError for a file that cannot be read.
        """
        places = [place for item in self.items for place in (item.image, item.mask, *item.targets) if place]
        files = list(dict.fromkeys(file for place in places for file in files_of(place)))
        hash_of = dict(zip(files, content_hashes(files), strict=True))

        def content(place: Place | None) -> list[object]:
            if place is None:
                return []
            return [*(hash_of[file] for file in files_of(place)), *inside(place)]

        meaning = sorted((str(key), name) for key, name in self.classes.to_values().items())
        head = json.dumps([self.classes.names, meaning, *self.targets])
        rows = (
            json.dumps(
                [
                    item.id,
                    item.split,
                    item.group,
                    *map(content, (item.image, item.mask, *item.targets)),
                    *item.ignored,
                ]
            )
            for item in self.items
        )
        return digest([head, *rows])

    def digests(self) -> dict[str, tuple[str, ...]]:
        """Item id -> (split, picture, mask, each of `targets`): 16 hex digits of their content, "" where there is none.

        What the fingerprint says of all, one by one, so that a change can be named. Inside an .npz the digits are of
        the picture's own pixels; of a part of another file (a page, an outline), of that file and the place in it.
        Raises DataError for a file that cannot be read.
        """
        rows = [(item.image, item.mask, *item.targets) for item in self.items]
        places = [place for row in rows for place in row if place is not None]
        files = list(dict.fromkeys(file for place in places for file in files_of(place)))
        sha_of = dict(zip(files, content_hashes(files), strict=True))
        frames = {array_of(place) for place in places if isinstance(place, Frame)}
        arrays = {array: row_digests(*array) for array in frames}

        def content(place: Place | None) -> str:
            if isinstance(place, Frame):
                return arrays[array_of(place)][place.row]
            if isinstance(place, Path):
                return sha_of[place][:16]
            if place is None:
                return ""
            return digest([json.dumps([*(sha_of[file] for file in files_of(place)), *inside(place)])])

        def of(item: Item) -> tuple[str, ...]:
            mask = content(item.mask)
            if item.ignored:
                mask = digest([mask, json.dumps(item.ignored)])
            return item.split, content(item.image), mask, *map(content, item.targets)

        return {item.id: of(item) for item in self.items}

    def to_yaml(self) -> str:
        """The resolved dataset.yaml with its fingerprint."""
        whole = {**self.source, "fingerprint": self.fingerprint()}
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)

    def without(self, ids: Collection[str]) -> Dataset:
        """The data set without these items; the others keep their splits. Raises DataError if none is left."""
        gone = set(ids)
        items = tuple(item for item in self.items if item.id not in gone)
        if not items:
            raise DataError(f"none of the {len(self.items)} images of {self.root} is left", "leave out fewer")
        before = cast(Sequence[str], self.source.get("exclude", []))
        exclude = [*before, *(item.id for item in self.items if item.id in gone)]
        return replace(self, items=items, source={**self.source, "exclude": exclude})

    def folds(self, count: int, seed: int = 0) -> tuple[Dataset, ...]:
        """Cross-validation: train and validation pooled, and each `count`-th of them validates once.

        Stratified by foreground share, groups kept whole. Raises DataError with fewer groups than folds.
        """
        return tuple(
            build_dataset(
                {**self.source, "validation": {"folds": count, "fold": fold, "seed": seed}}, self.root, SILENT
            )
            for fold in range(count)
        )


def _whole(id: str, parts: Sequence[Item]) -> Item:
    """A picture as it is scored, of its tiles; in a group of its own where they are in several."""
    first = parts[0]
    if first.piece is None:
        return first
    group = first.group if len({item.group for item in parts}) == 1 else id
    tiles = tuple(item.piece for item in parts if item.piece is not None)
    boxes = dict.fromkeys(
        piece.window.outwards(box) for piece, item in zip(tiles, parts, strict=True) for box in item.ignored
    )
    image, mask = first.piece.image, first.piece.mask
    return Item(id, image, mask, first.split, group, first.targets, tuple(boxes), tiles=tiles)


def open_dataset(data: str | Path, *, skip_broken: bool = False, progress: Progress = SILENT) -> Dataset:
    """A folder (its dataset.yaml, or a layout that is recognised), a dataset.yaml, an .npz, or `synthetic:NAME`.

    The headers of the images and the values of the masks are read once and remembered. Files that cannot be
    decoded are left to `find_broken`; with `skip_broken` their items are left out, and those whose mask has another
    size. Raises ConfigError and DataError: unknown keys and layouts, images without masks, sizes that differ, values
    outside the classes.
    """
    values, root = _locate(data)
    if not skip_broken:
        return build_dataset(values, root, progress)
    dataset, ids = _without_misfits(values, root, progress)
    broken = {path for path, _ in find_broken(dataset, progress)}
    torn = [item.id for item in dataset.items if {item.image, item.mask, *item.targets} & broken]
    ids += torn
    if not ids:
        return dataset
    said = f"{len(ids)} items with broken files are left out: {few(ids)}"
    return replace(dataset.without(torn) if torn else dataset, advice=(*dataset.advice, said))


def _without_misfits(
    values: Mapping[str, object], root: Path, progress: Progress
) -> tuple[Dataset, list[str]]:
    """The data set without items whose mask is not as large as the picture, and their ids."""
    try:
        return build_dataset(values, root, progress), []
    except FaultyError as error:
        if error.finding != "size-mismatch" or not error.cases:
            raise
        before = cast(Sequence[str], values.get("exclude") or ())
        return build_dataset({**values, "exclude": [*before, *error.cases]}, root, progress), [*error.cases]


def find_broken(dataset: Dataset, progress: Progress = SILENT) -> list[tuple[Path | Part, str]]:
    """Every image, mask and target that cannot be decoded to its last pixel, and why; sound files are remembered."""
    places = [place for item in dataset.items for place in (item.image, item.mask)]
    paths = list(dict.fromkeys(place for place in places if isinstance(place, Path | Part)))
    facts = recall("decodes/1", paths, _decode, what="Checking", progress=progress)
    targets = [place for item in dataset.items for place in item.targets if place is not None]
    facts += recall("decodes as target/1", targets, _decode_dense, what="Checking targets", progress=progress)
    return [
        (path, fact.problem)
        for path, fact in zip([*paths, *targets], facts, strict=True)
        if isinstance(fact, DataError)
    ]


def _decode(place: Path | Part) -> bool:
    read_raw(place, coloured=False)
    return True


def _decode_dense(path: Path) -> bool:
    read_dense(path)
    return True


def _locate(data: str | Path) -> tuple[Mapping[str, object], Path]:
    """The keys of the dataset.yaml (written, or implied) and the root folder."""
    text = str(data)
    if text.startswith("synthetic:"):
        return _synthetic(text)
    path = Path(data)
    if path.is_dir():
        if (path / "dataset.yaml").is_file():
            return _locate(path / "dataset.yaml")
        return {"path": str(path.resolve())}, path.resolve()
    if not path.exists():
        raise DataError(
            f"{path} is not there", "give a folder, a dataset.yaml, an .npz, a .json, or synthetic:terrain"
        )
    if path.suffix == ".npz":
        return {
            "path": str(path.resolve().parent),
            "format": "npz",
            "images": path.name,
        }, path.resolve().parent
    if path.suffix == ".json":
        return _of_json(path.resolve())
    if path.suffix not in (".yaml", ".yml"):
        if is_zipfile(path):
            raise DataError(f"{path} is an archive", "unpack it first, and give its folder")
        raise DataError(
            f"{path} is no data set", "give a folder, a dataset.yaml, an .npz, a .json, or synthetic:terrain"
        )
    try:
        values = read_yaml(path, LARGEST_YAML)
    except DataError as error:
        raise ConfigError(error.problem, error.hint) from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} is no mapping of keys to values", "write lines such as classes: [a, b]")
    if "format" not in values and yolo.is_yolo(values):
        root = path.resolve().parent
        return {"path": str(root), "format": "yolo", "masks": path.name}, root
    named = str(values.get("path", "."))
    if named.startswith("synthetic:"):
        kept = {
            key: value
            for key, value in values.items()
            if key in ("validation", "exclude", "ignore", "fingerprint")
        }
        written, root = _synthetic(named)
        return {**written, **kept}, root
    root = (path.parent / named).resolve()
    if not root.is_dir():
        raise DataError(
            f"path: {named} in {path} is no folder",
            f"change `path:` in {path.name} to where the data lie now",
        )
    return {**values, "path": str(root)}, root


def _of_json(path: Path) -> tuple[Mapping[str, object], Path]:
    """The annotations of COCO or Label Studio; those in a folder `annotations` are about what lies beside it."""
    if label_studio.is_export(path):
        return {"path": str(path.parent), "format": "label-studio", "masks": path.name}, path.parent
    if coco.is_coco(path):
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return {"path": str(root), "format": "coco", "masks": path.relative_to(root).as_posix()}, root
    hint = (
        "give the folder" if labelme.is_labelme(path) else "give a .json of COCO or Label Studio, or a folder"
    )
    raise DataError(f"{path} is no data set", hint)


def _synthetic(text: str) -> tuple[Mapping[str, object], Path]:
    from maskwright.data.synthetic import materialise  # it draws thousands of pictures: only when asked for

    values, root = _locate(materialise(text.removeprefix("synthetic:")))
    return {**values, "path": text}, root


@dataclass(frozen=True)
class Listing:
    """What a data set lists, before anybody has looked into its files."""

    root: Path
    config: DataConfig
    """Complete, except for what only the masks can tell."""
    pairs: tuple[Pair, ...]


def list_dataset(data: str | Path, exclude: Collection[str] = ()) -> Listing:
    """The pairs that `open_dataset` would look at, without more ids than its dataset.yaml excludes.

    Raises ConfigError and DataError; FaultyError knows the ids. What is excluded is listed where it can be read.
    """
    values, root = _locate(data)
    if exclude:
        before = cast(Sequence[str], values.get("exclude") or ())
        values = {**values, "exclude": [*before, *exclude]}
    return _listed(values, root)


def _listed(values: Mapping[str, object], root: Path) -> Listing:
    told = f"dataset.yaml of {root.name}"
    config = parse_config(values, told)
    if "format" not in values and config.images is None:
        config = config.model_copy(update={"format": _recognised(root)})
    if config.format not in FORMATS:
        raise ConfigError(f"{told} names the format {config.format!r}", suggest(config.format, list(FORMATS)))
    _check_keys(config, told)
    source = FORMATS[config.format]
    config = source.complete(root, with_table(root, config))
    if config.classes is not None:
        try:
            class_map(config.classes, config.values)  # before a minute of work
        except ConfigError as error:
            raise ConfigError(f"{told}: {error.problem}", error.hint) from error
    return Listing(root, config, source.read(root, config))


def build_dataset(values: Mapping[str, object], root: Path, progress: Progress) -> Dataset:
    """The data set that the keys of a dataset.yaml describe. Raises ConfigError and DataError as `open_dataset`."""
    listing = _listed(values, root)
    config, pairs, told = listing.config, listing.pairs, f"dataset.yaml of {root.name}"
    excluded = _excluded(config, pairs)
    used = [pair for pair in pairs if pair.id not in excluded]
    check_sizes(used, facts := all_facts(pairs, coloured_values(config), progress), progress)
    config = with_classes(config, [facts[pair.id] for pair in used], used)
    names = config.classes or ()
    classes = class_map(names, config.values, _COLOURS.get(names, ()))
    pixels = count_pixels(pairs, facts, classes, excluded)
    boxes = ignored_boxes(config, used, facts, told)
    pixels |= {pair.id: count_without(pair, classes, boxes[pair.id]) for pair in used if pair.id in boxes}

    groups = groups_of([pair.id for pair in pairs], config.groups, root)
    if config.validation is None and not any(split_name(pair.origin, told) == "validation" for pair in pairs):
        config = config.model_copy(update={"validation": ValidationConfig()})
    splits = assign_splits(pairs, groups, [foreground(pixels.get(pair.id)) for pair in pairs], config, told)
    items = tuple(
        Item(pair.id, pair.image, pair.mask, split, group, pair.targets, boxes.get(pair.id, ()), pair.piece)
        for pair, split, group in zip(pairs, splits, groups, strict=True)
        if pair.id not in excluded
    )
    if not items:
        raise DataError(f"{root} is empty after exclude", "leave out fewer")
    _check_tiles(items)
    grouped = config.groups != "{id}"
    dataset = Dataset(
        root=root,
        format=config.format,
        name=_name(config, root),
        classes=classes,
        items=items,
        grouped=grouped,
        source=written_keys(config),
        pixels=pixels,
        targets=tuple(config.targets or ()),
    )
    _check_targets(dataset, config.targets or {}, progress)
    wholes = {pair.piece.whole for pair in pairs if pair.piece is not None}
    return replace(dataset, advice=_advice(dataset, config, {pair.id for pair in pairs} | wholes))


def _excluded(config: DataConfig, pairs: Sequence[Pair]) -> set[str]:
    """Ids that `exclude` names; the id of a picture stands for all of its tiles."""
    named = set(config.exclude)
    return named | {pair.id for pair in pairs if pair.piece is not None and pair.piece.whole in named}


def _check_tiles(items: Sequence[Item]) -> None:
    """Raises DataError where tiles that share pixels would train and judge."""
    tiles = [(item, item.piece) for item in items if item.piece is not None]
    overlapping = {piece.whole for _, piece in tiles if piece.window != piece.core}
    first_of: dict[str, Item] = {}
    for item, piece in tiles:
        first = first_of.setdefault(piece.whole, item)
        if first.split != item.split and piece.whole in overlapping:
            raise DataError(
                f"{first.id} is for {first.split} and {item.id} for {item.split}, but tiles of {piece.whole} share "
                "pixels",
                'keep them in one group (groups: "{id:before last @}"); a smaller block makes more groups',
            )


_SPACED: Mapping[str, Callable[[Sequence[Path]], list[spacing.Spacing | None]]] = {
    "nifti": nifti.spacings,
    "dicom": dicom.spacings,
}
"""Formats whose pixels have a size."""

_OWN_KEYS = {
    "crowds": ("coco",),
    "bands": ("geotiff",),
    "tile": ("geotiff",),
    "overlap": ("geotiff",),
    "block": ("geotiff",),
    "window": ("geotiff", "tiff-stack", "nifti", "dicom"),
}


def _check_keys(config: DataConfig, told: str) -> None:
    """Raises ConfigError for a key that the format would not listen to."""
    for key, formats in _OWN_KEYS.items():
        if getattr(config, key) is not None and config.format not in formats:
            raise ConfigError(
                f"{told} gives {key} for the format {config.format}", f"{key} is for {', '.join(formats)}"
            )


def _recognised(root: Path) -> str:
    if not any(root.iterdir()):
        raise DataError(f"{root} is empty", "give the folder that holds images and masks")
    return recognised(root) or "folder"


def recognised(root: Path) -> str | None:
    """The format of a bare folder: the first that recognises it; files of masks before shapes to be drawn."""
    for name, source in FORMATS.items():
        if source.recognise(root) and not (name in _DRAWN and folder.holds_pairs(root)):
            return name
    return None


def _name(config: DataConfig, root: Path) -> str:
    if config.path.startswith("synthetic:"):
        return config.path.removeprefix("synthetic:")
    if config.format == "npz" and config.images is not None:
        return Path(config.images).stem
    return root.name


def written_keys(config: DataConfig) -> dict[str, object]:
    """The keys of a dataset.yaml that says all of `config`."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value

    dumped = config.model_dump(by_alias=True, exclude_none=True, exclude={"fingerprint"})
    return cast(dict[str, object], plain(dumped))


def _advice(dataset: Dataset, config: DataConfig, ids: set[str]) -> tuple[str, ...]:
    said = []
    counts = Counter(item.split for item in dataset.items)
    train = dataset.class_pixels("train")
    for split in ("train", "validation", "test"):
        absent = [
            name
            for name, pixels, trained in zip(
                dataset.classes.names, dataset.class_pixels(split), train, strict=True
            )
            if not pixels and (trained or split == "train")
        ]
        if absent and counts[split]:
            said.append(f"{split} has no pixel of {few(absent)}: no score can be given for it there")
    if dataset.grouped:
        labelled = [item for item in dataset.items if item.split != "unlabelled"]
        torn = straddling([item.group for item in labelled], [item.split for item in labelled])
        for group, splits in list(torn.items())[:3]:
            said.append(f"group {group} lies in {' and '.join(splits)}: scores there flatter")
    if dark := _dark(dataset):
        said.append(
            f"pictures of 16 bits use hardly any of their range and become almost black ({few(dark)}): stretch them "
            "to the full range, new pictures for predict likewise"
        )
    if astray := _leading_out(dataset):
        said.append(f"{len(astray)} files lie outside {dataset.root}, behind links: {few(astray)}")
    if config.format == "coco":
        said += coco.advice(dataset.root, config)
    if config.format in _SPACED:
        files = dict.fromkeys(item.image.file for item in dataset.items if isinstance(item.image, Part))
        said += spacing.advice(_SPACED[config.format](list(files)))
    unknown = [name for name in config.exclude if name not in ids]
    if unknown:
        said.append(f"exclude names {few(unknown)}, which the data do not hold")
    if config.fingerprint is not None and config.fingerprint != dataset.fingerprint():
        said.append(f"the data have changed since the fingerprint {config.fingerprint} was taken")
    return tuple(said)


def _dark(dataset: Dataset) -> list[str]:
    """Of the first pictures those that are almost black in 8 bits; broken ones are found elsewhere."""
    found = []
    for item in dataset.items[:LOOKED_AT]:
        with suppress(DataError):
            if isinstance(item.image, Path) and is_dark(item.image):
                found.append(item.id)
    return found


def _leading_out(dataset: Dataset) -> list[str]:
    """Files that a link, of theirs or of a folder, takes out of the root: a stranger's archive may show one's own."""
    root = dataset.root.resolve()
    places = [place for item in dataset.items for place in (item.image, item.mask, *item.targets) if place]
    files = dict.fromkeys(file for place in places for file in files_of(place))
    outside = {
        folder for folder in {file.parent for file in files} if not folder.resolve().is_relative_to(root)
    }
    return [
        f"{file} -> {file.resolve()}"
        for file in files
        if file.parent in outside or (file.is_symlink() and not file.resolve().is_relative_to(root))
    ]


def _check_targets(dataset: Dataset, templates: Mapping[str, str], progress: Progress) -> None:
    """Raises DataError: what is trained or validated on must have all its targets, each as large as its picture."""
    used = [item for item in dataset.items if item.split in ("train", "validation")]
    for index, (name, template) in enumerate(templates.items()):
        lacking = [item.id for item in used if item.targets[index] is None]
        if lacking:
            raise FaultyError(
                "targets",
                f"{len(lacking)} of {len(used)} pictures for training and validation have no {name} ({few(lacking)})",
                f"it would be {template} in {dataset.root}: add it, or list the id under exclude in dataset.yaml",
                dict.fromkeys(lacking, f"has no {name}"),
            )
    files = [(place, item) for item in dataset.items for place in item.targets if place is not None]
    facts = recall("size of target/1", [place for place, _ in files], dense_size, progress=progress)
    differing = [
        (item.id, (str(place), tuple(cast(list[int], fact)), header[:2]))
        for (place, item), fact, header in zip(
            files, facts, headers([item.image for _, item in files], progress), strict=True
        )
        if not isinstance(fact, DataError)
        and header is not None
        and tuple(cast(list[int], fact)) != header[:2]
    ]
    if differing:
        error = size_error([sizes for _, sizes in differing], "target")
        cases = {id_: size_error([sizes], "target").problem for id_, sizes in differing}
        raise FaultyError("targets", error.problem, error.hint, cases)
