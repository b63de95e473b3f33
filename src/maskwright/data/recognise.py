"""A folder of unknown origin: the dataset.yaml that fits it best, the reasons for it, and what is left over."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import yaml

from maskwright.data.classes import IGNORE, codes_of
from maskwright.data.colour_table import NAMES as TABLES
from maskwright.data.dataset import FORMATS, Dataset, build_dataset, recognised
from maskwright.data.image_io import ENDINGS, is_coloured, read_mask
from maskwright.data.part import Part
from maskwright.data.places import files_of, picture_size
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, Pair, few, parse_config
from maskwright.data.truths import all_facts, coloured_values
from maskwright.errors import DataError, UserError
from maskwright.progress import SILENT, Progress

WHY = {
    "oxford-pet": "images/ beside annotations/trimaps/, as Oxford-IIIT Pet has them",
    "camvid": "train/ beside trainannot/, with the names of CamVid's drives",
    "cvat": "labelmap.txt beside SegmentationClass/, as CVAT exports segmentation masks",
    "voc": "JPEGImages/ beside SegmentationClass/, as in Pascal VOC",
    "coco": "a .json with images, annotations and categories, as in COCO",
    "yolo": "a .yaml with names and folders of pictures, as YOLO has it",
    "labelme": ".json files with shapes, as LabelMe writes them",
    "label-studio": "a .json with a list of tasks and results, as Label Studio exports it",
    "nifti": "volumes (.nii) beside volumes of labels",
    "dicom": "slices (.dcm) beside masks of the same names",
    "npz": "arrays in .npz files",
    "geotiff": "TIFFs that say where on the earth they lie, or are too large to be read whole",
    "tiff-stack": "TIFFs of several pages beside others",
    "folder": "pictures and masks in folders, paired by their names",
}
TEMPLATES = ("folder", "geotiff", "tiff-stack", "cvat", "voc", "oxford-pet", "camvid", "nifti", "dicom")
"""Formats that pair files by templates."""

MOST_VALUES = 32
"""More values than that in all masks are no classes but blur."""
COMMON = 0.01
"""Share of the pixels that a value among too many has to have; the others are taken for blur."""
NEAR = 8
"""Grey levels apart within which blurred values belong to one."""
SAMPLE = 8
"""Masks looked at to tell folders of masks from folders of pictures."""
FEW_BLOCKS, SMALLEST_BLOCK, USUAL_TILE = 10, 64, 512
"""Of a raster that has to be divided to train and validate: fewer blocks leave no choice; sides in pixels."""


@dataclass(frozen=True)
class Proposal:
    """What a folder is most likely."""

    keys: Mapping[str, object]
    """For dataset.yaml."""
    reasons: tuple[str, ...]
    pairs: int
    left_over: tuple[str, ...]
    """One line per kind of file that is not used."""
    dataset: Dataset | None
    """The data, read so; None where they cannot be."""
    problem: str = ""
    """Why they cannot."""

    def to_yaml(self, file: Path | None = None) -> str:
        """dataset.yaml, the reasons as comments; without the place of the data where `file` lies in their folder."""
        head = "".join(f"# {' '.join(reason.split())}\n" for reason in self.reasons)
        keys = dict(self.keys)
        if file is not None and str(file.parent.resolve()) == keys["path"]:
            del keys["path"]
        return head + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)


def propose(root: Path, progress: Progress = SILENT) -> Proposal:
    """Look at every file and at the values of all masks. Asks nothing. Raises DataError where no pair is found."""
    root = root.resolve()
    form = recognised(root)
    reasons = [f"{form}: {WHY[form]}"] if form else []
    keys: dict[str, object] = {"path": str(root), "format": form or "folder"}
    if form is None:
        images, masks, why = _searched(root)
        keys |= {"images": images, "masks": masks}
        reasons.append(f"folder: {why}")
    try:
        config = FORMATS[str(keys["format"])].complete(root, parse_config(keys, "the proposal"))
    except UserError as error:
        return Proposal(keys, tuple(reasons), 0, _others(root, set()), None, str(error))
    pairs, without, orphans = _paired(root, config)
    for key in ("images", "masks", "splits"):
        value = getattr(config, key)
        if value is not None:
            keys[key] = value
    reasons.append(_pairing(config, pairs, without))
    if without:
        keys["exclude"] = [*without]
        reasons.append(f"exclude: without a mask: {len(without)} ({few([*without])})")
    keys, said = _with_values(keys, config, pairs, progress)
    reasons += said
    if divided := _divided(pairs):
        keys |= divided
        reasons.append("tile, block: there is one raster, of which some parts train and others validate")
    used = {file for pair in pairs for place in (pair.image, pair.mask) if place for file in files_of(place)}
    used |= {root / name for name in (*(config.splits or {}).values(), *TABLES) if isinstance(name, str)}
    left = [f"masks without a picture: {len(orphans)} ({few(orphans)})"] if orphans else []
    used |= {*without.values()}  # excluded, which is said already
    left += _others(root, used | {root / name for name in orphans})
    try:
        dataset, problem = build_dataset(keys, root, progress), ""
        reasons.append(_splitting(dataset))
    except UserError as error:
        dataset, problem = None, str(error)
    return Proposal(keys, tuple(reasons), len(pairs), tuple(left), dataset, problem)


def _paired(root: Path, config: DataConfig) -> tuple[list[Pair], dict[str, Path], list[str]]:
    """Pairs, pictures without masks by their ids, masks without pictures (below the root)."""
    source = FORMATS[config.format]
    if config.format not in TEMPLATES:
        return list(source.read(root, config)), {}, []
    images, masks = str(config.images), str(config.masks)
    folders = [str(name) for name in (config.splits or {}).values()] if "{split}" in images else [""]
    without, orphans, labelled = dict[str, Path](), list[str](), 0
    for inside in folders:
        labels = folder.listing(root, masks.replace("{split}", inside))
        shown = folder.listing(root, images.replace("{split}", inside), without=set(labels.values()))
        labelled += len(shown.keys() & labels.keys())
        if labels:  # a split without any mask is unlabelled
            without |= {name: path for name, path in shown.items() if name not in labels}
        orphans += [path.relative_to(root).as_posix() for name, path in labels.items() if name not in shown]
    if not labelled:
        raise DataError(
            f"no picture of {root / images} has a mask in {root / masks}",
            "rename them, or write both templates",
        )
    read = source.read(root, config.model_copy(update={"exclude": tuple(without)}))
    listed = {pair.id for pair in read}
    missing = {name: path for name, path in without.items() if name in listed}
    return [pair for pair in read if pair.id not in missing], missing, orphans


def _divided(pairs: Sequence[Pair]) -> dict[str, object]:
    """For one raster of few blocks: blocks of a quarter of its sides, so that there are groups to choose from."""
    blocks = {
        pair.piece.whole if pair.piece else pair.id: pair.piece.image if pair.piece else pair.image
        for pair in pairs
    }
    rasters = {
        part.file if isinstance(part, Part) and part.form == "raster" else None for part in blocks.values()
    }
    if len(rasters) != 1 or None in rasters or len(blocks) >= FEW_BLOCKS:
        return {}
    area = sum(math.prod(picture_size(part)) for part in blocks.values())
    block = max(math.isqrt(area) // 4, SMALLEST_BLOCK)
    return {"tile": min(block, USUAL_TILE), "block": block}


def _pairing(config: DataConfig, pairs: Sequence[Pair], without: Mapping[str, Path]) -> str:
    labelled = sum(pair.mask is not None for pair in pairs)
    how = f" ({config.images} with {config.masks})" if config.format in TEMPLATES else ""
    return f"{labelled} of {len(pairs) + len(without)} pictures have a mask{how}"


def _splitting(dataset: Dataset) -> str:
    counts = Counter(item.split for item in dataset.items)
    return "splits: " + ", ".join(f"{count} {name}" for name, count in counts.items())


def _with_values(
    keys: dict[str, object], config: DataConfig, pairs: Sequence[Pair], progress: Progress
) -> tuple[dict[str, object], list[str]]:
    """Classes and values from what the masks hold, where the format does not know them."""
    if config.classes is not None:
        known = {"classes": list(config.classes)}
        if config.values is not None:
            known["values"] = dict(config.values)  # type: ignore[assignment]
        return keys | known, [f"classes: {few(config.classes, 6)}, as the format or a table beside it says"]
    jpegs = {pair.id: None for pair in pairs if _is_jpeg(pair)}  # in order, and found at once
    fact_of = {
        name: fact
        for name, fact in all_facts(pairs, coloured_values(config), progress).items()
        if fact is not None
    }
    sound = [fact for name, fact in fact_of.items() if name not in jpegs]
    facts = sound or [*fact_of.values()]  # what others hold exactly, the blur of a few must not change
    pixels = Counter[int]()
    for fact in facts:
        pixels.update(dict(zip(fact.codes, fact.counts, strict=True)))
    coloured = any(fact.colours for fact in facts)
    blurred = any(len(fact.codes) > MOST_VALUES for fact in facts) or not sound
    values, reason = _values(pixels, len(facts), coloured, blurred)
    if sound and jpegs:
        values["*"] = "ignore"
        reason += f"; what else JPEG masks hold is ignored, save them as PNG: {few([*jpegs])}"
    names = list(dict.fromkeys(name for name in values.values() if name != "ignore"))
    return keys | {"classes": names, "values": values}, [reason]


def _is_jpeg(pair: Pair) -> bool:
    """Whether the mask is one, whatever its name says."""
    if not isinstance(pair.mask, Path):
        return False
    with open(pair.mask, "rb") as opened:
        return opened.read(3) == b"\xff\xd8\xff"


def _values(
    pixels: Mapping[int, int], masks: int, coloured: bool, blurred: bool
) -> tuple[dict[int | str, str], str]:
    """What each value means, most likely, and why."""
    found, total = sorted(pixels), sum(pixels.values())
    many = blurred or len(found) > MOST_VALUES
    if many and not coloured:
        return _blurred(pixels, masks)
    kept = [code for code in found if pixels[code] >= COMMON * total] if many else found
    shown = few([_key_text(code, coloured) for code in kept], 8)
    values: dict[int | str, str]
    if not coloured and len(kept) == 2 and kept[0] == 0:
        values = {0: "background", kept[1]: "object"}
        reason = f"values: the {masks} masks hold 0 and {kept[1]}"
        if kept[1] == IGNORE:
            reason += ": 255 has to be the object here, not what is ignored"
    elif coloured:
        values = {f"#{code:06x}": "background" if code == 0 else f"class_{code:06x}" for code in kept}
        reason = f"values: the {masks} masks are painted in {len(kept)} colours ({shown})"
    else:
        void = {IGNORE} if len(kept) > 1 else set()
        values = {
            code: "ignore" if code in void else "background" if code == 0 else f"class_{code}"
            for code in kept
        }
        reason = f"values: the {masks} masks hold {shown}"
        reason += "; 255 is taken for what is not known" if void & set(kept) else ""
    if len(kept) < len(found):
        share = 1 - sum(pixels[code] for code in kept) / total
        values["*"] = "ignore"
        blur = len(found) - len(kept)
        reason += f", and {blur} others in {share:.1%} of the pixels: blurred by JPEG or at edges, ignored"
    return values, reason


def _blurred(pixels: Mapping[int, int], masks: int) -> tuple[dict[int | str, str], str]:
    """Grey levels around the commonest ones: at an edge JPEG rings by a few, and smoothing takes all between."""
    total, tops = sum(pixels.values()), list[int]()
    for code in sorted(pixels, key=lambda code: -pixels[code]):
        if pixels[code] >= COMMON * total and all(abs(code - top) > 2 * NEAR for top in tops):
            tops.append(code)
    tops.sort()
    names = [f"class_{top}" for top in tops]
    if tops and tops[0] <= NEAR:
        names[0] = "background"
    if len(tops) == 2:
        names[1] = "object"
    values: dict[int | str, str] = {
        code: name
        for top, name in zip(tops, names, strict=True)
        for code in range(max(top - NEAR, 0), top + NEAR + 1)
        if code in pixels
    }
    share = 1 - sum(pixels[int(code)] for code in values) / total
    reason = (
        f"values: the {masks} masks hold {len(pixels)} values, blurred by JPEG or at edges: those around "
        f"{few([str(top) for top in tops], 8)} are classes, the rest ({share:.1%} of the pixels) is ignored"
    )
    return {**values, "*": "ignore"}, reason


def _key_text(code: int, coloured: bool) -> str:
    return f"#{code:06x}" if coloured else str(code)


def _others(root: Path, used: set[Path]) -> tuple[str, ...]:
    """Files that are neither picture nor mask, by ending."""
    kinds: dict[str, list[str]] = {}
    for above, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(above) / name
            if path not in used and not name.startswith(".") and name != "dataset.yaml":
                kinds.setdefault(path.suffix.lower() or "no ending", []).append(
                    path.relative_to(root).as_posix()
                )
    return tuple(f"not used ({ending}): {len(names)} ({few(names)})" for ending, names in kinds.items())


# Folders with names of their own


def _searched(root: Path) -> tuple[str, str, str]:
    """Templates of pictures and masks, and why, for the two folders (or the one) whose names match best."""
    held = _held(root)
    best: tuple[int, str, str, str] | None = None
    for images, masks in [*permutations(held, 2), *((name, name) for name in held)]:
        found = _matched(held, images, masks)
        if found is not None and (best is None or found[0] > best[0]) and _are_masks(root, found[2]):
            best = found
    if best is None:
        folder.complete(root, DataConfig())  # raises, and says what was looked for
        raise DataError(f"{root} holds no pairs of pictures and masks", "write dataset.yaml")
    count, images, masks, _ = best
    return images, masks, f"{count} names of {images} are found again as {masks}, which hold few values"


def _held(root: Path) -> dict[str, list[str]]:
    """Folder below the root -> names of its pictures, the largest 12 folders."""
    held: dict[str, list[str]] = {}
    for above, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in files if Path(name).suffix.lower() in ENDINGS and not name.startswith(".")]
        if names:
            inside = Path(above).relative_to(root).as_posix()
            held["" if inside == "." else f"{inside}/"] = sorted(names)
    largest = sorted(held, key=lambda name: -len(held[name]))[:12]
    return {name: held[name] for name in largest}


def _matched(held: Mapping[str, list[str]], images: str, masks: str) -> tuple[int, str, str, str] | None:
    """(pairs, template of pictures, template of masks, folder) where names share an id between fixed ends."""
    if images == masks:
        return _beside(held[images], images)
    shown, labels = ({Path(name).stem for name in held[place]} for place in (images, masks))
    ends = [(("", ""), ("", "")), (_ends(shown), _ends(labels))]
    for first, second in ends:
        ids = {_cut(stem, first) for stem in shown} & {_cut(stem, second) for stem in labels} - {""}
        if len(ids) >= max(2, len(labels) // 2):
            return (
                len(ids),
                f"{images}{first[0]}{{id}}{first[1]}.*",
                f"{masks}{second[0]}{{id}}{second[1]}.*",
                masks,
            )
    return None


def _beside(names: Sequence[str], place: str) -> tuple[int, str, str, str] | None:
    """One folder: the commonest ending that turns a picture's name into a mask's."""
    stems = sorted({Path(name).stem for name in names})
    known, tails = set(stems), Counter[str]()
    for stem in stems:
        for cut in range(1, len(stem)):
            if stem[:cut] in known:
                tails[stem[cut:]] += 1
    if not tails:
        return None
    tail, count = tails.most_common(1)[0]
    return (
        (count, f"{place}{{id}}.*", f"{place}{{id}}{tail}.*", place)
        if count >= max(2, len(stems) // 4)
        else None
    )


def _ends(stems: set[str]) -> tuple[str, str]:
    """What all names begin and end with, numbers left alone."""
    first = _common(stems).rstrip("0123456789")
    last = _common({stem[len(first) :][::-1] for stem in stems})[::-1].lstrip("0123456789")
    return first, last


def _common(texts: set[str]) -> str:
    """What all begin with: what the first and the last in order do."""
    first, last = min(texts), max(texts)
    return next(
        (first[:place] for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), first
    )


def _cut(stem: str, ends: tuple[str, str]) -> str:
    return stem[len(ends[0]) : len(stem) - len(ends[1])]


def _are_masks(root: Path, template: str) -> bool:
    """Whether the first few files hold few values each."""
    files = list(folder.listing(root, template).values())[:SAMPLE]
    return bool(files) and all(_few_values(file) for file in files)


def _few_values(file: Path) -> bool:
    try:
        codes, _ = codes_of(read_mask(file, colours=is_coloured(file)), False)
    except DataError:
        return False
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    return bool(counts[:MOST_VALUES].sum() >= 0.9 * codes.size)
