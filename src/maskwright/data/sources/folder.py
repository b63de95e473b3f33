"""Folders of images and masks: siblings, splits as sub-folders, suffixes, lists, templates."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath

from maskwright.data.arrays import ENDING as ARRAY
from maskwright.data.colour_table import NAMES as TABLES
from maskwright.data.colour_table import classes_of, read_table
from maskwright.data.documents import read_text
from maskwright.data.fingerprint import printable
from maskwright.data.image_io import ENDINGS, is_coloured
from maskwright.data.sources.common import (
    SPLIT_FOLDERS,
    DataConfig,
    FaultyError,
    Pair,
    check_id,
    closest,
    few,
    filled,
    split_name,
)
from maskwright.errors import ConfigError, DataError

IMAGE_FOLDERS = ("images", "imgs", "img", "image")
MASK_FOLDERS = ("masks", "labels", "annotations", "mask", "label", "gt", "annots", "annot")
SUFFIXES = (
    "",
    "_mask",
    "_masks",
    "_label",
    "_labels",
    "_gt",
    "_seg",
    "_segmentation",
    "-mask",
    "_annotation",
)


def recognise(root: Path) -> bool:
    """Whether images and masks can be told apart by folder or suffix."""
    return _layout(root) is not None


def holds_pairs(root: Path) -> bool:
    """Whether there are files of masks for some of the pictures."""
    found = _layout(root)
    if found is None:
        return False
    splits = _split_folders(root / found[0].partition("{split}")[0]) if "{split}" in found[0] else [""]
    sides = ([by_id(root, template.replace("{split}", name)) for name in splits] for template in found)
    return any(shown.keys() & labels.keys() for shown, labels in zip(*sides, strict=True))


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Templates, splits and the validation draw, found in the folder.

    Raises DataError that says what was looked for.
    """
    if config.images is None or config.masks is None:
        if config.images is not None or config.masks is not None:
            raise ConfigError(
                "dataset.yaml gives only one of images and masks", "give both templates, or neither"
            )
        found = _layout(root)
        if found is None:
            raise DataError(
                f"{root} has no layout that is known: looked for {'|'.join(IMAGE_FOLDERS)} beside "
                f"{'|'.join(MASK_FOLDERS)} (with train, val, test or without), NAME beside NAME_masks, and "
                f"files beside files with {', '.join(SUFFIXES[1:4])}; "
                f"found {few(sorted(entry.name for entry in root.iterdir()))}",
                f'write dataset.yaml with images: "FOLDER/{{id}}.jpg" and masks: "FOLDER/{{id}}.png"; '
                f"`maskwright data show {root}` proposes one where it can",
            )
        config = config.model_copy(update={"images": found[0], "masks": found[1]})
    for key, template in (("images", config.images), ("masks", config.masks)):
        if template is None or "{id}" not in template:
            raise ConfigError(
                f"{key}: {template} in dataset.yaml has no {{id}}", f'write {key}: "folder/{{id}}.png"'
            )
    assert config.images is not None
    assert config.masks is not None
    config = filled(config, splits=_splits(root, config.images))
    if config.classes is None and config.values is None and (table := _table(root, str(config.masks))):
        names, values = classes_of(read_table(table))
        config = config.model_copy(update={"classes": names, "values": values})
    return config


def _table(root: Path, masks: str) -> Path | None:
    """The table of colours at the root, where there is one and the masks are painted in colours."""
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        return None
    above = root / masks.partition("{")[0].rpartition("/")[0]
    first = next((path for path in sorted(above.rglob("*")) if path.suffix.lower() in ENDINGS), None)
    return table if first and is_coloured(first) else None


def read(root: Path, config: DataConfig) -> tuple[Pair, ...]:
    """The pairs by their templates: of the lists, of the split folders, or all (as `train`)."""
    assert config.images is not None
    assert config.masks is not None
    splits, targets = config.splits or {}, tuple((config.targets or {}).values())
    if "{split}" in config.images:
        found = _read_splits(root, config.images, config.masks, targets, splits)
    else:
        found = _read_part(root, config.images, config.masks, targets, "train")
    pairs = [pair for pair, _ in found]
    if "{split}" not in config.images and splits:
        pairs = by_lists(root, splits, pairs, config.exclude)
    if not pairs:
        raise DataError(
            f"{root} holds no image that fits {config.images}", "check the template and the endings"
        )
    excluded = set(config.exclude)
    twice = {pair.id: said for pair, said in found if said}
    _refuse_twice({pair.id: twice[pair.id] for pair in pairs if pair.id in twice.keys() - excluded})
    labelled = {pair.origin for pair in pairs if pair.mask is not None}
    without = [
        pair
        for pair in pairs
        if pair.mask is None
        and pair.id not in excluded
        and split_name(pair.origin, "splits") != "unlabelled"
        and (pair.origin in labelled or "{split}" not in config.images)
    ]
    if without:
        names = few([str(pair.image) for pair in without])
        near = {alike(name): path.name for name, path in orphans(root, config)}
        raise FaultyError(
            "missing-masks",
            f"{len(without)} of {len(pairs)} images have no mask ({names})",
            f"the mask would be {config.masks} in {root}: add it, or list the id under exclude in dataset.yaml, "
            f"as `maskwright data audit {root} --fix FILE` does",
            {
                pair.id: f"has no mask; {near[alike(pair.id)]} differs only by case or by the form of a letter"
                if alike(pair.id) in near
                else "has no mask"
                for pair in without
            },
        )
    return tuple(pairs)


def _refuse_twice(twice: Mapping[str, str]) -> None:
    """`twice`: id -> the files that have it. Raises FaultyError."""
    if twice:
        name, said = next(iter(twice.items()))
        more = f", and {len(twice) - 1} more ids are there twice" if len(twice) > 1 else ""
        raise FaultyError(
            "duplicate-ids",
            f"{said} have the same id {name!r}{more}",
            "move one of them away, or make the template in dataset.yaml more exact",
            {name: f"{said} have the same id" for name, said in twice.items()},
        )


def orphans(root: Path, config: DataConfig) -> list[tuple[str, Path]]:
    """Masks of which there is no picture, with the ids that it would have."""
    images, masks, found = str(config.images), str(config.masks), list[tuple[str, Path]]()
    splits = [str(name) for name in (config.splits or {}).values()] if "{split}" in images else [""]
    for inside in splits:
        labels = by_id(root, masks.replace("{split}", inside))
        taken = {path for paths in labels.values() for path in paths}
        shown = by_id(root, images.replace("{split}", inside), without=taken)
        found += [(name, path) for name, paths in labels.items() if name not in shown for path in paths]
    return found


def alike(name: str) -> str:
    """What is the same of two names that some systems take for one: of another case, or an é of two characters."""
    return unicodedata.normalize("NFC", name).casefold()


def _read_splits(
    root: Path, images: str, masks: str, targets: Sequence[str], splits: Mapping[str, object]
) -> list[tuple[Pair, str]]:
    """One part per split folder; `train/` goes in front of the ids where two splits use the same names."""
    parts: list[tuple[str, Pair, str]] = []
    for origin, folder in splits.items():
        if not isinstance(folder, str):
            raise ConfigError(
                f"splits: {origin} is a list", "where images has {split}, it is a folder's name"
            )
        check_id(folder, "splits")
        image, mask, *others = (text.replace("{split}", folder) for text in (images, masks, *targets))
        parts += [(folder, pair, said) for pair, said in _read_part(root, image, mask, others, origin)]
    if len({pair.id for _, pair, _ in parts}) == len(parts):
        return [(pair, said) for _, pair, said in parts]
    return [(replace(pair, id=f"{folder}/{pair.id}"), said) for folder, pair, said in parts]


def _read_part(
    root: Path, images: str, masks: str, targets: Sequence[str], origin: str
) -> list[tuple[Pair, str]]:
    """Pairs, each with the files of which it is the first because they have the same id, or ""."""
    targets_of = [by_id(root, template) for template in targets]
    taken = {path for target_of in targets_of for paths in target_of.values() for path in paths}
    mask_of = by_id(root, masks, without=taken)
    taken |= {path for paths in mask_of.values() for path in paths}
    found = []
    for name, paths in by_id(root, images, without=taken).items():
        sides = [paths, mask_of.get(name, []), *(target_of.get(name, []) for target_of in targets_of)]
        image, mask, *others = (next(iter(side), None) for side in sides)
        assert image is not None
        twice = next((f"{side[1]} and {side[0].name}" for side in sides if len(side) > 1), "")
        found.append((Pair(name, origin, image, mask, tuple(others)), twice))
    return found


def by_id(root: Path, template: str, without: Collection[Path] = ()) -> dict[str, list[Path]]:
    """The files that fit `template`, in the order of their ids. {id} may span folders (`seq1/0001`)."""
    found: dict[str, list[Path]] = {}
    for name, file in sorted(_fitting(root, template)):
        path = Path(file)
        if path not in without:
            found.setdefault(name, []).append(path)
    return found


def listing(root: Path, template: str, without: Collection[Path] = ()) -> dict[str, Path]:
    """The same, one file each. Raises FaultyError when two files (a.jpg, a.png) have the same id."""
    found = by_id(root, template, without)
    _refuse_twice(
        {name: f"{files[1]} and {files[0].name}" for name, files in found.items() if len(files) > 1}
    )
    return {name: files[0] for name, files in found.items()}


def _fitting(root: Path, template: str) -> Iterator[tuple[str, str]]:
    """Id and path of every file, unsorted."""
    before, _, after = template.partition("{id}")
    endings = r"\.(?i:" + "|".join(ending[1:] for ending in ENDINGS) + ")"
    tail = re.escape(after.removesuffix(".*")).replace(r"\{id\}", "(?P=id)")
    pattern = re.compile(
        f"{re.escape(before)}(?P<id>.+){tail}{endings if after.endswith('.*') else ''}", re.S
    )
    above = before.rpartition("/")[0]
    for folder, folders, files in os.walk(root / above):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(os.path.relpath(folder, root / above)).as_posix()
        place = "/".join(part for part in (above, inside) if part not in ("", "."))
        for file in files:
            match = pattern.fullmatch(f"{place}/{file}" if place else file)
            if match is not None and not file.startswith("."):
                yield printable(match["id"]), os.path.join(folder, file)


def by_lists(
    root: Path, splits: Mapping[str, str | tuple[str, ...]], pairs: list[Pair], exclude: Collection[str]
) -> list[Pair]:
    """The pairs that lists name, with their splits.

    Raises FaultyError for ids without an image or in the lists of two splits, unless they are excluded.
    """
    by_id = {pair.id: pair for pair in pairs}
    by_stem = {PurePosixPath(name).name: name for name in by_id}
    chosen: dict[str, Pair] = {}
    absent, torn = dict[str, str](), dict[str, str]()
    for origin, listed in splits.items():
        source = f"{origin} of splits" if isinstance(listed, tuple) else str(root / listed)
        lines = listed if isinstance(listed, tuple) else _lines(root / listed)
        names = dict.fromkeys(_id_of(line, by_id, by_stem, source) for line in lines)
        for name in names:
            if name not in by_id:
                absent[name] = source
                continue
            before = chosen.setdefault(name, replace(by_id[name], origin=origin)).origin
            if split_name(before, source) != split_name(origin, source):
                torn[name] = f"is in both {before} and {origin}"
    missing = [name for name in absent if name not in exclude]
    if missing:
        source, known = absent[missing[0]], list(by_id)
        alike = [name for name in missing if absent[name] == source]
        raise FaultyError(
            "missing-pictures",
            f"{source} lists {len(alike)} ids without an image ({few(alike)}){closest(alike[0], known)}",
            "add the images, or take the ids out of the list",
            {
                name: f"{absent[name]} lists it, and there is no image{closest(name, known)}"
                for name in missing
            },
        )
    cases = {name: said for name, said in torn.items() if name not in exclude}
    if cases:
        name, said = next(iter(cases.items()))
        more = f", and {len(cases) - 1} more ids are in two lists" if len(cases) > 1 else ""
        raise FaultyError("split-overlap", f"{name} {said}{more}", "keep it in one list", cases)
    return list(chosen.values())


def _lines(path: Path) -> list[str]:
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(
            f"the list {path} cannot be read: {error.problem}", "check splits in dataset.yaml"
        ) from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _id_of(line: str, by_id: Mapping[str, Pair], by_stem: Mapping[str, str], source: str) -> str:
    """A line is an id, an id and more columns, or a path to the image."""
    word = line.split()[0]
    for name in (line, word):
        if name in by_id:
            return name
    check_id(word, source)
    path = PurePosixPath(word.replace("\\", "/"))
    stem = path.name.removesuffix(path.suffix) if path.suffix.lower() in ENDINGS else path.name
    return by_stem.get(stem, word)


def _splits(root: Path, images: str) -> dict[str, str] | None:
    if "{split}" in images:
        base = root / images.partition("{split}")[0]
        return {name: name for name in _split_folders(base)}
    for folder in (".", "splits", "lists"):
        lists = {
            path.stem: path.relative_to(root).as_posix()
            for path in sorted((root / folder).glob("*.txt"))
            if path.stem.lower() in (*SPLIT_FOLDERS, "trainval")
        }
        if {"train", "val"} <= lists.keys():
            lists.pop("trainval", None)  # both together
        if lists:
            return lists
    return None


def _split_folders(base: Path) -> list[str]:
    if not base.is_dir():
        return []
    order = list(SPLIT_FOLDERS)
    names = [entry.name for entry in base.iterdir() if entry.name.lower() in order and entry.is_dir()]
    return sorted(names, key=lambda name: order.index(name.lower()))


def _layout(root: Path) -> tuple[str, str] | None:
    """Templates of images and masks, or None."""
    splits = _split_folders(root)
    for images, masks in product(IMAGE_FOLDERS, MASK_FOLDERS):
        if (root / images).is_dir() and (root / masks).is_dir():
            inner = "{split}/" if _split_folders(root / images) else ""
            return _paired(root, f"{images}/{inner}{{id}}", f"{masks}/{inner}{{id}}")
        if any((root / split / images).is_dir() and (root / split / masks).is_dir() for split in splits):
            return _paired(root, f"{{split}}/{images}/{{id}}", f"{{split}}/{masks}/{{id}}")
    for ending in ("_masks", "_mask", "_labels", "annot", "_annot", "_gt"):
        if any((root / f"{split}{ending}").is_dir() for split in splits):
            return _paired(root, "{split}/{id}", f"{{split}}{ending}/{{id}}")
    if splits:
        return _paired(root, "{split}/{id}", "{split}/{id}", apart=False)
    return _paired(root, "{id}", "{id}", apart=False)


def _paired(root: Path, images: str, masks: str, *, apart: bool = True) -> tuple[str, str] | None:
    """The suffix that pairs most images with masks; in one folder (not `apart`) there has to be one."""
    base = root / images.partition("{split}")[0]
    folders = _split_folders(base) if "{split}" in images else [""]
    pictures, labels = set[str](), set[str]()
    for folder in folders:
        pictures |= {
            f"{folder}/{name}" for name, _ in _fitting(root, f"{images}.*".replace("{split}", folder))
        }
        labels |= {f"{folder}/{name}" for name, _ in _fitting(root, f"{masks}.*".replace("{split}", folder))}
    matched = {
        suffix: sum(f"{name}{suffix}" in labels for name in pictures)
        for suffix in (SUFFIXES if apart else SUFFIXES[1:])
    }
    best = max(matched, key=lambda suffix: matched[suffix])  # the first of the best
    if matched[best]:
        return f"{images}.*", f"{masks}{best}.*"
    arrays = {
        f"{folder}/{name}"
        for folder in folders
        for name, _ in _fitting(root, f"{masks}{ARRAY}".replace("{split}", folder))
    }
    for suffix in SUFFIXES:
        if any(f"{name}{suffix}" in arrays for name in pictures):
            return f"{images}.*", f"{masks}{suffix}{ARRAY}"
    return (f"{images}.*", f"{masks}{best}.*") if apart else None
