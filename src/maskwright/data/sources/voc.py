"""Pascal VOC (Everingham et al. 2010, IJCV 88): pictures, masks with the palette, and lists of ids.

`JPEGImages/ID.jpg`, `SegmentationClass/ID.png`, `ImageSets/Segmentation/{train,val,trainval,test}.txt`, in the folder
itself or below `VOC2012/` and `VOCdevkit/VOC2012/`. Masks hold palette indices, 255 is void; where they were saved
again as RGB, the colours of the palette are read. `class_names.txt` (as labelme writes it) names the classes of
one's own data; otherwise they are the 20 of the challenge.
"""

from __future__ import annotations

from pathlib import Path

from maskwright.data.classes import Colour, colour_text
from maskwright.data.colour_table import plain_name
from maskwright.data.documents import read_text
from maskwright.data.image_io import is_coloured
from maskwright.data.sources import folder
from maskwright.data.sources.common import DataConfig, filled
from maskwright.errors import DataError

# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
VOID: Colour = (224, 224, 192)
MASKS = ("SegmentationClass", "SegmentationClassPNG")
LISTS = "ImageSets/Segmentation"

read = folder.read


def palette(count: int) -> tuple[Colour, ...]:
    """The colours of the challenge: bit 3 b + c of the index is bit 7 - b of channel c."""
    return tuple((_channel(index, 0), _channel(index, 1), _channel(index, 2)) for index in range(count))


def _channel(index: int, channel: int) -> int:
    return sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))


def base(root: Path) -> Path | None:
    """The folder, at the root or up to two below it, that holds pictures and masks."""
    for pattern in (".", "VOC*", "VOCdevkit/*", "*"):
        for place in sorted(root.glob(pattern)) if pattern != "." else [root]:
            if (place / "JPEGImages").is_dir() and any((place / masks).is_dir() for masks in MASKS):
                return place
    return None


def recognise(root: Path) -> bool:
    return base(root) is not None


def complete(root: Path, config: DataConfig) -> DataConfig:
    """Raises DataError without masks."""
    place = base(root) or root
    prefix = "" if place == root else f"{place.relative_to(root).as_posix()}/"
    masks = next((name for name in MASKS if any((place / name).glob("*.png"))), None)
    if masks is None and config.masks is None:
        raise DataError(
            f"{place} holds no {MASKS[0]}/*.png", "the layout is JPEGImages/ID.jpg, SegmentationClass/ID.png"
        )
    lists = split_lists(place)
    config = filled(
        config,
        images=f"{prefix}JPEGImages/{{id}}.*",
        masks=f"{prefix}{masks}/{{id}}.png",
        splits={name: f"{prefix}{LISTS}/{file}" for name, file in lists.items()} or None,
    )
    named = place / "class_names.txt"
    if config.classes is None:
        config = config.model_copy(update={"classes": _names(named) if named.is_file() else CLASSES})
    assert config.classes is not None
    if config.values is None:
        colours = palette(len(config.classes))
        first = next(iter(sorted((place / str(masks)).glob("*.png"))), None)
        keys: list[int | str] = [*range(len(config.classes)), 255]
        if first is not None and is_coloured(first):
            keys = [*map(colour_text, colours), colour_text(VOID)]
        config = config.model_copy(
            update={"values": dict(zip(keys, (*config.classes, "ignore"), strict=True))}
        )
    return config


def split_lists(place: Path) -> dict[str, str]:
    """Split -> file of the lists; trainval where train and val are not apart, test where its masks are here."""
    names = {path.stem: path for path in sorted((place / LISTS).glob("*.txt"))}
    if "train" in names and "val" in names:
        names.pop("trainval", None)
    if "test" in names and not _labelled(place, names["test"]):
        del names["test"]
    known = {"default": "train"}  # CVAT's subset without a name
    return {known.get(name, name): path.name for name, path in names.items()}


def _labelled(place: Path, listed: Path) -> bool:
    """Whether the first id of a list has a mask: those of the challenge's test pictures are secret."""
    first = read_text(listed).strip().partition("\n")[0].rstrip()
    names = {first, *first.split(maxsplit=1)[:1]}  # an id may have spaces, or 1 and -1 behind it
    return any((place / masks / f"{name}.png").is_file() for name in names for masks in MASKS)


def _names(path: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in read_text(path).splitlines())
    names = [plain_name(line) for line in lines if line]
    return tuple(name for name in names if name != "ignore")
