"""Broken data sets, one fault each (a few have two): how each is made, and what an audit has to say about it.

`python tests/audit/corpus.py DIR` writes them all into DIR, to look at.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from maskwright.data.convert import convert
from maskwright.data.dataset import open_dataset

Array = NDArray[Any]

SIZE = HEIGHT, WIDTH = 40, 48
SPLITS = (("train", 16), ("val", 4), ("test", 4))
TRAIN, VAL, TEST = ([f"{split}{number:02}" for number in range(count)] for split, count in SPLITS)
ALL = (*TRAIN, *VAL, *TEST)
ONE = ("train01",)
PLAIN = "classes: [ground, disc]\n"


@dataclass(frozen=True)
class Broken:
    """A data set with a fault, and what an audit says about it."""

    build: Callable[[Path], object]
    """Writes it into an empty folder."""
    expected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Finding -> the items it has to name, all of them and no others."""
    refused: str = ""
    """Instead, where there is nothing to be audited: what the one line of the error says (a regular expression)."""
    says: str = ""
    """What else the evidence or the advice has to say (a regular expression)."""
    data: str = ""
    """What is audited, below the folder."""


# Sound parts


@cache
def picture(seed: int, size: tuple[int, int] = SIZE) -> Array:
    """Clouds of its own in three colours."""
    noise = np.random.default_rng(seed).standard_normal((*size, 3))
    clouds = gaussian_filter(noise, (4, 4, 0))
    return np.asarray((clouds / clouds.std() * 40 + 128).clip(1, 254), np.uint8)


@cache
def disc(seed: int, size: tuple[int, int] = SIZE) -> Array:
    """A mask of 0 and 1."""
    random = np.random.default_rng(seed)
    row, column, radius = random.uniform(12, size[0] - 12), random.uniform(12, size[1] - 12), 5 + seed % 5
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 < radius**2, np.uint8)


def boxed(seed: int) -> Array:
    """A mask of 0, 1 and 2."""
    mask = disc(seed).copy()
    mask[:5, : 6 + seed % 30] = 2
    return mask


def seed_of(name: str) -> int:
    return ALL.index(name) + 1


def save(array: Array, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]


def image_file(root: Path, name: str = "train01") -> Path:
    return root / name[:-2] / "images" / f"{name}.png"


def mask_file(root: Path, name: str = "train01") -> Path:
    return root / name[:-2] / "masks" / f"{name}.png"


def sound(
    root: Path,
    mask: Callable[[int], Array] = disc,
    keys: str = PLAIN,
    counts: Sequence[tuple[str, int]] = SPLITS,
) -> None:
    """train/images/train00.png beside train/masks/train00.png, ..."""
    for split, count in counts:
        for name in (f"{split}{number:02}" for number in range(count)):
            save(picture(seed_of(name)), image_file(root, name))
            save(mask(seed_of(name)), mask_file(root, name))
    if keys:
        (root / "dataset.yaml").write_text(keys)


def flat(root: Path, keys: str = PLAIN, names: Sequence[str] = ALL, ending: str = ".png") -> None:
    """images/train00.png beside masks/train00.png, with lists of ids."""
    for name in names:
        save(picture(seed_of(name)), root / "images" / f"{name}{ending}")
        save(disc(seed_of(name)), root / "masks" / f"{name}.png")
    for split, _ in SPLITS:
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names if name.startswith(split)))
    if keys:
        (root / "dataset.yaml").write_text(keys)


def on_sound(change: Callable[[Path], object], **options: Any) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        sound(root, **options)
        change(root)

    return build


def on_flat(change: Callable[[Path], object], **options: Any) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        flat(root, **options)
        change(root)

    return build


def steps(*builds: Callable[[Path], object]) -> Callable[[Path], None]:
    """One after the other."""

    def build(root: Path) -> None:
        for each in builds:
            each(root)

    return build


def each_picture(make: Callable[[Array, Array], Array]) -> Callable[[Path], None]:
    """All pictures anew, from the sound picture and its mask."""

    def build(root: Path) -> None:
        sound(root)
        for name in ALL:
            save(make(picture(seed_of(name)), disc(seed_of(name))), image_file(root, name))

    return build


def keys(text: str, **options: Any) -> Callable[[Path], None]:
    """Sound files, and a dataset.yaml that is not."""
    return lambda root: sound(root, keys=text, **options)


def new_mask(
    make: Callable[[Array], Array], ending: str = ".png", **options: object
) -> Callable[[Path], None]:
    """train01's mask made of the sound one."""

    def build(root: Path) -> None:
        sound(root)
        mask_file(root).unlink()
        save(make(disc(2)), mask_file(root).with_suffix(ending), **options)

    return build


def new_picture(
    make: Callable[[Array], Array], ending: str = ".png", name: str = "train01", **options: object
) -> Callable[[Path], None]:
    """A picture made of the sound one."""

    def build(root: Path) -> None:
        sound(root)
        image_file(root, name).unlink()
        save(make(picture(seed_of(name))), image_file(root, name).with_suffix(ending), **options)

    return build


def cut(file: Path, share: float = 0.6) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claims(height: int, width: int) -> bytes:
    """A PNG of a few bytes that says it is as large as that."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


# Files


def cut_jpeg(root: Path) -> None:
    image_file(root).unlink()
    save(picture(2), image_file(root).with_suffix(".jpg"), quality=95)
    cut(image_file(root).with_suffix(".jpg"))


def cut_tiff(root: Path) -> None:
    image_file(root).unlink()
    save(picture(2), image_file(root).with_suffix(".tif"))
    cut(image_file(root).with_suffix(".tif"))


def folder_for_a_mask(root: Path) -> None:
    mask_file(root).unlink()
    mask_file(root).mkdir()


def broken_link(root: Path) -> None:
    image_file(root).unlink()
    image_file(root).symlink_to(root / "nowhere.png")


def cmyk(root: Path) -> None:
    image_file(root).unlink()
    Image.fromarray(picture(2)).convert("CMYK").save(image_file(root).with_suffix(".jpg"))


def lying_ending(root: Path) -> None:
    Image.fromarray(picture(2)).save(image_file(root), format="JPEG", quality=95)


def text_bomb(root: Path) -> None:
    """Megabytes of text in a few kilobytes of PNG."""
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (1 << 27)))
    content = image_file(root).read_bytes()
    image_file(root).write_bytes(content[:33] + text + content[33:])


def turned(orientation: int) -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return new_picture(lambda array: array, exif=exif)


def floating(value: float) -> Callable[[Path], None]:
    """A mask of floating-point numbers with a corner that is no class."""

    def make(mask: Array) -> Array:
        numbers = mask.astype(np.float32)
        numbers[:4, :4] = value
        return numbers

    return new_mask(make, ".tif")


def masks_as_arrays(root: Path, change: Callable[[Array], Array] = lambda mask: mask) -> None:
    """images/ beside masks/*.npy of labels; train01's is changed."""
    for name in TRAIN:
        save(picture(seed_of(name)), root / "images" / f"{name}.png")
        (root / "masks").mkdir(exist_ok=True)
        mask = disc(seed_of(name))
        np.save(root / "masks" / f"{name}.npy", change(mask) if name == "train01" else mask)
    (root / "dataset.yaml").write_text(PLAIN)


def array_of_nan(mask: Array) -> Array:
    numbers = mask.astype(np.float32)
    numbers[0, 0] = np.nan
    return numbers


def one_hot(root: Path) -> None:
    """Masks of H x W x 2, in train01's some pixels are both."""
    masks_as_arrays(root)
    for name in TRAIN:
        mask = disc(seed_of(name))
        hot = np.stack([1 - mask, mask], axis=-1)
        if name == "train01":
            hot[:6, :6] = 1
        np.save(root / "masks" / f"{name}.npy", hot)


def cut_array(root: Path) -> None:
    masks_as_arrays(root)
    cut(root / "masks" / "train01.npy")


# Values


def corner(value: int) -> Callable[[Array], Array]:
    def make(mask: Array) -> Array:
        changed = mask.copy()
        changed[:6, :6] = value
        return changed

    return make


def negative(mask: Array) -> Array:
    numbers = mask.astype(np.int32)
    numbers[:6, :6] = -1
    return numbers


def painted(seed: int) -> Array:
    """disc and ground as colours."""
    return np.array([[10, 20, 30], [200, 60, 90]], np.uint8)[disc(seed)]


def blurred(mask: Array) -> Array:
    smooth = gaussian_filter(mask.astype(np.float64), (0.7, 0.7, 0)[: mask.ndim])
    return np.asarray(smooth.round(), np.uint8)


def jpeg_masks(root: Path) -> None:
    sound(root, keys=PLAIN + "values: {0: ground, 255: disc}\n")
    for name in ALL:
        mask_file(root, name).unlink()
        save(disc(seed_of(name)) * np.uint8(255), mask_file(root, name).with_suffix(".jpg"))


def clean_jpeg(root: Path) -> None:
    """Blocks of 8 x 8 survive JPEG."""
    sound(root, mask=lambda seed: disc(seed) * np.uint8(255), keys=PLAIN + "values: {0: ground, 255: disc}\n")
    mask_file(root).unlink()
    mask = np.zeros(SIZE, np.uint8)
    mask[8:24, 16:32] = 255
    save(mask, mask_file(root).with_suffix(".jpg"), quality=100)


def gif_mask(root: Path) -> None:
    mask_file(root).unlink()
    image = Image.fromarray(disc(2))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(mask_file(root).with_suffix(".gif"))


def palette_mask(root: Path) -> None:
    image = Image.fromarray(disc(2))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(mask_file(root))


def in_red(mask: Array) -> Array:
    return np.stack([mask, 0 * mask, 0 * mask], axis=-1)


# Pairs, ids, lists


def without_picture(root: Path) -> None:
    save(disc(99), mask_file(root, "train77"))


def other_case(root: Path) -> None:
    mask_file(root).rename(mask_file(root).with_name("TRAIN01.png"))


def same_id(root: Path) -> None:
    save(picture(77), image_file(root).with_suffix(".jpg"))


def same_names(root: Path) -> None:
    """train/images/00.png and val/images/00.png are not the same; train/images/01.jpg is one too many."""
    sound(root)
    for name in ALL:
        image_file(root, name).rename(image_file(root, name).with_name(f"{name[-2:]}.png"))
        mask_file(root, name).rename(mask_file(root, name).with_name(f"{name[-2:]}.png"))
    save(picture(77), root / "train" / "images" / "01.jpg")
    (root / "val" / "masks" / "02.png").unlink()


def same_id_of_masks(root: Path) -> None:
    save(disc(77), mask_file(root).with_suffix(".bmp"))


def alike_ids(root: Path) -> None:
    save(picture(77), image_file(root).with_name("Train01.png"))
    save(disc(77), mask_file(root).with_name("Train01.png"))


def decomposed(root: Path) -> None:
    """An é of one character and one of two: the same on a Mac, two names elsewhere."""
    image_file(root).rename(image_file(root).with_name("é.png"))
    mask_file(root).rename(mask_file(root).with_name(unicodedata.normalize("NFD", "é") + ".png"))


ODD = ("a b", "line\nbreak", "猫", "#1", "-rf", 'a"b')


def named_oddly(root: Path) -> None:
    for number, name in enumerate(ODD):
        image_file(root, TRAIN[number]).rename(image_file(root).with_name(f"{name}.png"))
        mask_file(root, TRAIN[number]).rename(mask_file(root).with_name(f"{name}.png"))


def odd_and_cut(root: Path) -> None:
    named_oddly(root)
    for name in ODD:
        cut(image_file(root).with_name(f"{name}.png"))


def litter(root: Path) -> None:
    for name in ("._train01.png", "Thumbs.db", ".DS_Store", "notes.txt"):
        image_file(root).with_name(name).write_text("not a picture")
        mask_file(root).with_name(name).write_text("not a picture")


def windows(root: Path) -> None:
    """A mark of the byte order in front, and two characters at the ends of lines."""
    for file in (*root.glob("*.txt"), root / "dataset.yaml"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))


def many_faults(root: Path) -> None:
    """All that keep items from being listed, and some that are only seen in the files."""
    flat(root)
    (root / "masks" / "train00.png").unlink()
    save(picture(77), root / "images" / "train01.jpg")
    listed("test", "train02")(root)
    listed("val", "val77")(root)
    cut(root / "images" / "train03.png")
    save(disc(5)[:-1], root / "masks" / "train04.png")
    save(corner(9)(disc(6)), root / "masks" / "train05.png")


def listed(split: str, *lines: str) -> Callable[[Path], None]:
    """Lines added to the list of a split."""

    def change(root: Path) -> None:
        file = root / f"{split}.txt"
        file.write_text(file.read_text() + "".join(f"{line}\n" for line in lines))

    return change


def empty_folder(root: Path) -> None:
    sound(root, counts=SPLITS[:2])
    for kind in ("images", "masks"):
        (root / "test" / kind).mkdir(parents=True)


# Twins, constant masks, splits


def twin(
    name: str, of: str, change: Callable[[Image.Image], Image.Image], **options: object
) -> Callable[[Path], None]:
    """`name` becomes a changed copy of the picture `of`, its mask of the same size."""

    def build(root: Path) -> None:
        sound(root)
        shown = change(Image.open(image_file(root, of)))
        file = image_file(root, name)
        file.unlink()
        shown.save(file.with_suffix(".jpg") if options else file, **options)  # type: ignore[arg-type]
        mask = Image.fromarray(disc(seed_of(name))).resize(shown.size, Image.Resampling.NEAREST)
        mask.save(mask_file(root, name))

    return build


def many(root: Path, counts: Mapping[str, int], look: Callable[[str, int], Array]) -> None:
    """More pictures, which are small."""
    seed = 0
    for split, count in counts.items():
        for number in range(count):
            seed += 1
            save(look(split, seed), root / split / "images" / f"{split}{number:03}.png")
            mask = disc(seed, (32, 32)).copy()
            mask.flat[seed] = 1
            save(mask, root / split / "masks" / f"{split}{number:03}.png")
    (root / "dataset.yaml").write_text(PLAIN)


def stripes(split: str, seed: int) -> Array:
    if seed == 100:
        return np.asarray(np.indices((32, 32)).sum(0)[..., None] % 2 * [255, 0, 255], np.uint8)
    return picture(seed, (32, 32))


def darker(split: str, seed: int) -> Array:
    return picture(seed, (32, 32)) // np.uint8(3 if split == "test" else 1)


def with_targets(root: Path) -> None:
    sound(
        root,
        keys=PLAIN + 'images: "{split}/images/{id}.png"\nmasks: "{split}/masks/{id}.png"\n'
        'splits: {train: train, val: val, test: test}\ntargets: {depth: "{split}/depth/{id}.npy"}\n',
    )
    for name in ALL:
        (root / name[:-2] / "depth").mkdir(exist_ok=True)
        np.save(target_file(root, name), picture(seed_of(name))[..., 0].astype(np.float32))


def target_file(root: Path, name: str = "train01") -> Path:
    return root / name[:-2] / "depth" / f"{name}.npy"


def on_targets(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        with_targets(root)
        change(root)

    return build


def grows() -> str:
    """A few hundred letters that mean a thousand million names."""
    lines = ["groups:", "- &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 10)]
    return "\n".join(lines) + "\n"


# Other layouts


def as_form(form: str, change: Callable[[Path], object], **options: Any) -> Callable[[Path], None]:
    """The sound set in another layout, without a dataset.yaml; then changed."""

    def build(root: Path) -> None:
        before = root.with_name(f"{root.name} before")
        sound(before, keys="classes: [background, disc]\n", **options)
        convert(open_dataset(before), form, root)
        shutil.rmtree(before)
        (root / "dataset.yaml").unlink()
        change(root)

    return build


def edited(file: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A .json read, changed and written again."""

    def build(root: Path) -> None:
        whole = json.loads((root / file).read_text())
        change(whole)
        (root / file).write_text(json.dumps(whole))

    return build


COCO_FILE = "annotations/train.json"


def of_first(whole: Any) -> Any:
    """The annotation of train01."""
    (image,) = (one for one in whole["images"] if "train01" in one["file_name"])
    return next(one for one in whole["annotations"] if one["image_id"] == image["id"])


def outside(whole: Any) -> None:
    of_first(whole)["segmentation"] = [[100, 100, 160, 100, 160, 160]]


def panoptic(root: Path) -> None:
    """Six pictures; a segment of train01 is not in the .json."""
    images, annotations = [], []
    for key, name in enumerate(TRAIN[:6], 1):
        save(picture(key), root / "train" / f"{name}.jpg")
        ids = disc(key).astype(np.uint8) + np.uint8(1)
        if name == "train01":
            ids[:4, :4] = 9
        save(
            np.stack([ids, 0 * ids, 0 * ids], axis=-1),
            root / "annotations" / "panoptic_train" / f"{name}.png",
        )
        images.append({"id": key, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        segments = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}]
        annotations.append({"image_id": key, "file_name": f"{name}.png", "segments_info": segments})
    categories = [{"id": 1, "name": "grass"}, {"id": 2, "name": "disc"}]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "panoptic_train.json").write_text(json.dumps(whole))


def yolo(root: Path, line: str = "") -> None:
    """Squares; one line more in train01's labels."""
    for name in ALL:
        split = name[:-2]
        save(picture(seed_of(name)), root / "images" / split / f"{name}.jpg", quality=95)
        labels = root / "labels" / split / f"{name}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        left, top = 0.1 + seed_of(name) / 80, 0.2 + seed_of(name) / 100
        square = f"0 {left} {top} {left + 0.3} {top} {left + 0.3} {top + 0.3} {left} {top + 0.3}\n"
        labels.write_text(square + (line if name == "train01" else ""))
    (root / "data.yaml").write_text("names: [cat]\ntrain: images/train\nval: images/val\ntest: images/test\n")


def labelme(root: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    for name in TRAIN:
        save(picture(seed_of(name)), root / f"{name}.jpg", quality=95)
        seed = seed_of(name)
        corners = [[5 + seed, 5], [20 + seed, 5], [20 + seed, 20 + seed]]
        whole = {
            "shapes": [{"label": "cat", "shape_type": "polygon", "points": corners}],
            "imagePath": f"{name}.jpg",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        if name == "train01":
            change(whole)
        (root / f"{name}.json").write_text(json.dumps(whole))


def line_shape(whole: dict[str, Any]) -> None:
    whole["shapes"].append({"label": "cat", "shape_type": "line", "points": [[1, 1], [9, 9]]})


def far_shape(whole: dict[str, Any]) -> None:
    whole["shapes"].append({"label": "cat", "shape_type": "polygon", "points": [[90, 1], [99, 1], [99, 9]]})


def cut_labelme(root: Path) -> None:
    labelme(root)
    cut(root / "train01.json")


def label_studio(root: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    tasks = []
    for name in TRAIN:
        save(picture(seed_of(name)), root / "pictures" / f"{name}.jpg", quality=95)
        seed = seed_of(name)
        region = {
            "type": "rectanglelabels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "value": {
                "x": 3 * seed,
                "y": 20,
                "width": 30,
                "height": 10 + 3 * seed,
                "rectanglelabels": ["cat"],
            },
        }
        tasks.append(
            {"id": seed, "data": {"image": f"/data/{name}.jpg"}, "annotations": [{"result": [region]}]}
        )
    change(tasks)
    (root / "export.json").write_text(json.dumps(tasks))


def no_label(tasks: list[dict[str, Any]]) -> None:
    del tasks[1]["annotations"][0]["result"][0]["value"]["rectanglelabels"]


def keypoint(tasks: list[dict[str, Any]]) -> None:
    point = {"type": "keypointlabels", "value": {"x": 5, "y": 5, "keypointlabels": ["cat"]}}
    tasks[1]["annotations"][0]["result"].append(point)


def voc(root: Path) -> None:
    for name in TRAIN:
        save(picture(seed_of(name)), root / "JPEGImages" / f"{name}.jpg", quality=95)
        save(boxed(seed_of(name)), root / "SegmentationClass" / f"{name}.png")
    (root / "class_names.txt").write_text("background\ndisc\nbox\n")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in (("train", TRAIN[:12]), ("val", TRAIN[12:])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))


def voc_value(root: Path) -> None:
    voc(root)
    save(corner(40)(boxed(2)), root / "SegmentationClass" / "train01.png")


def voc_list(root: Path) -> None:
    voc(root)
    file = root / "ImageSets" / "Segmentation" / "val.txt"
    file.write_text(file.read_text() + "\n2008_000001\n")


def cvat(root: Path, table: str = "background:0,0,0::\ndisc:200,60,90::\n") -> None:
    colours = np.array([[0, 0, 0], [200, 60, 90], [1, 2, 3]], np.uint8)
    for name in TRAIN:
        save(picture(seed_of(name)), root / "JPEGImages" / f"{name}.jpg", quality=95)
        mask = corner(2)(disc(seed_of(name))) if name == "train01" else disc(seed_of(name))
        save(colours[mask], root / "SegmentationClass" / f"{name}.png")
    (root / "labelmap.txt").write_text(table)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "default.txt").write_text("\n".join(TRAIN))


def camvid(root: Path) -> None:
    for split, drive, count in (("train", "0001TP", 10), ("val", "0006R0", 3), ("test", "Seq05VD", 3)):
        for number in range(count):
            name, seed = f"{drive}_{number:04}", 100 * len(split) + number
            save(picture(seed), root / split / f"{name}.png")
            mask = np.arange(HEIGHT * WIDTH).reshape(SIZE) // 160 % 12
            mask[:10, : 2 + number] = 12 if (split, number) == ("train", 1) else 1
            mask[10:15, : 2 + number] = len(split)
            save(mask.astype(np.uint8), root / f"{split}annot" / f"{name}.png")


def oxford(root: Path) -> None:
    names = [f"cat_{number}" for number in range(16)]
    for seed, name in enumerate(names, 1):
        save(picture(seed), root / "images" / f"{name}.jpg", quality=95)
        trimap = np.array([2, 1], np.uint8)[disc(seed)]
        save(
            corner(0)(trimap) if name == "cat_1" else trimap, root / "annotations" / "trimaps" / f"{name}.png"
        )
    for split, part in (("trainval", names[:12]), ("test", names[12:])):
        (root / "annotations" / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in part))


def npz(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    arrays: dict[str, Any] = {
        "images": np.stack([picture(seed_of(name)) for name in TRAIN]),
        "masks": np.stack([disc(seed_of(name)) for name in TRAIN]),
    }
    change(arrays)
    root.mkdir(exist_ok=True)
    np.savez(root / "train.npz", **arrays)


def geotiff(
    root: Path,
    change: Callable[[str, Array, Array, dict[str, Any]], tuple[Array, Array]] | None = None,
    keys: str = "format: geotiff\nclasses: [ground, disc]\n",
) -> None:
    """Eight rasters of 10 m; `change` gets and gives picture and mask, and may move the mask (`transform`)."""
    for name in TRAIN[:8]:
        shown, mask = picture(seed_of(name)), disc(seed_of(name))
        place = rasterio.Affine(10, 0, 1000 * seed_of(name), 0, -10, 0)
        told: dict[str, Any] = {"transform": place}
        if change is not None:
            shown, mask = change(name, shown, mask, told)
        for kind, array, transform in (
            ("images", shown, place),
            ("masks", mask[..., None], told["transform"]),
        ):
            (root / kind).mkdir(exist_ok=True, parents=True)
            height, width, bands = array.shape
            with rasterio.open(
                root / kind / f"{name}.tif",
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=bands,
                dtype=array.dtype,
                crs="EPSG:32632",
                transform=transform,
                nodata=None if kind == "images" else 99,
            ) as raster:
                raster.write(array.transpose(2, 0, 1))
    (root / "dataset.yaml").write_text(keys)


Four = tuple[Array, Array]


def elsewhere(name: str, shown: Array, mask: Array, told: dict[str, Any]) -> Four:
    if name == "train01":
        told["transform"] = told["transform"] @ rasterio.Affine.translation(7, 0)
    return shown, mask


def smaller(name: str, shown: Array, mask: Array, told: dict[str, Any]) -> Four:
    return shown, mask[:-4] if name == "train01" else mask


def two_rasters(name: str, shown: Array, mask: Array, told: dict[str, Any]) -> Four:
    return smaller(name, shown, mask, told) if name == "train01" else elsewhere("train01", shown, mask, told)


def no_data(name: str, shown: Array, mask: Array, told: dict[str, Any]) -> Four:
    return shown, 0 * mask + np.uint8(99) if name == "train01" else mask


def float_raster(name: str, shown: Array, mask: Array, told: dict[str, Any]) -> Four:
    return shown.astype(np.float32) if name == "train01" else shown, mask


def cut_raster(root: Path) -> None:
    geotiff(root)
    cut(root / "images" / "train01.tif", 0.05)


def stacks(root: Path) -> None:
    """Five stacks of three pages; the labels of the second have two."""
    for number in range(5):
        pages = np.stack([picture(3 * number + page)[..., 0] for page in range(3)])
        masks = np.stack([disc(3 * number + page) for page in range(3)])
        for kind, array in (("images", pages), ("masks", masks[:2] if number == 1 else masks)):
            (root / kind).mkdir(exist_ok=True, parents=True)
            tifffile.imwrite(root / kind / f"cell{number}.tif", array, photometric="minisblack")
    (root / "dataset.yaml").write_text("format: tiff-stack\nclasses: [ground, disc]\n")


def nifti(root: Path, change: Callable[[Array, Array], tuple[Array, Array]] = lambda *two: two) -> None:
    """Five volumes of three slices; labels and grid of the second are changed."""
    for number in range(5):
        volume = np.stack([picture(3 * number + page)[..., 0] for page in range(3)], axis=-1)
        labels, grid = np.stack([disc(3 * number + page) for page in range(3)], axis=-1), np.eye(4)
        if number == 1:
            labels, grid = change(labels, grid)
        for kind, array, affine in (
            ("images", volume.astype(np.float32), np.eye(4)),
            ("labels", labels, grid),
        ):
            (root / kind).mkdir(exist_ok=True, parents=True)
            volume_of: Any = nibabel.Nifti1Image
            volume_of(array, affine).to_filename(str(root / kind / f"p{number}.nii"))
    (root / "dataset.yaml").write_text("format: nifti\nclasses: [ground, disc]\n")


def cut_volume(root: Path) -> None:
    nifti(root)
    cut(root / "images" / "p1.nii")


def dicom(root: Path, change: Callable[[Path], object]) -> None:
    for name in TRAIN:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = root / "images" / f"{name}.dcm"
        file.parent.mkdir(exist_ok=True, parents=True)
        slice_ = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID, slice_.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        slice_.Modality, slice_.Rows, slice_.Columns = "CT", HEIGHT, WIDTH
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation, slice_.SamplesPerPixel = 15, 0, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        if not (name == "train01" and change is no_pixels):
            slice_.PixelData = picture(seed_of(name))[..., 0].astype(np.uint16).tobytes()
        slice_.save_as(str(file))
        save(disc(seed_of(name)), root / "masks" / f"{name}.png")
    (root / "dataset.yaml").write_text("format: dicom\nclasses: [ground, disc]\n")
    change(root)


def no_pixels(root: Path) -> None:
    """Told to `dicom`."""


def patients(root: Path, names: Sequence[str]) -> None:
    (root / "patients.csv").write_text("".join(f"{name},{group}\n" for name, group in names_of_groups(names)))


def names_of_groups(names: Sequence[str]) -> list[tuple[str, str]]:
    shared = {"train01": "anna", "test00": "anna"}
    return [(name, shared.get(name, name)) for name in names]


# The corpus

CORPUS: dict[str, Broken] = {
    # files
    "PNG cut short": Broken(on_sound(lambda root: cut(image_file(root))), {"unreadable": ONE}),
    "JPEG cut short": Broken(on_sound(cut_jpeg), {"unreadable": ONE}),
    "TIFF cut short": Broken(on_sound(cut_tiff), {"unreadable": ONE}),
    "mask of zero bytes": Broken(
        on_sound(lambda root: mask_file(root).write_bytes(b"")), {"unreadable": ONE}
    ),
    "text that ends in .png": Broken(
        on_sound(lambda root: image_file(root).write_text("404 not found")), {"unreadable": ONE}
    ),
    "folder for a mask": Broken(on_sound(folder_for_a_mask), {"missing-masks": ONE}),
    "broken link": Broken(on_sound(broken_link), {"unreadable": ONE}, says="nowhere|is not there"),
    "claims 3.6 gigapixels": Broken(
        on_sound(lambda root: image_file(root).write_bytes(claims(60_000, 60_000))),
        {"unreadable": ONE},
        says="claims",
    ),
    "mask claims 4 terapixels": Broken(
        on_sound(lambda root: mask_file(root).write_bytes(claims(2_000_000, 2_000_000))), {"unreadable": ONE}
    ),
    "text bomb in a PNG": Broken(on_sound(text_bomb), {"unreadable": ONE}),
    "JPEG that ends in .png": Broken(on_sound(lying_ending), {"wrong-ending": ONE}),
    "CMYK": Broken(on_sound(cmyk), {"mixed-bands": ONE}, says="CMYK"),
    "grey among colours": Broken(new_picture(lambda array: array[..., 0]), {"mixed-bands": ONE}),
    "12 bits in 16": Broken(
        new_picture(lambda array: array[..., 0].astype(np.uint16) * 16),
        {"dark-16-bit": ONE, "mixed-bands": ONE},
    ),
    "floating-point picture": Broken(
        new_picture(lambda array: array[..., 0].astype(np.float32) / 255, ".tif"),
        {"unreadable": ONE},
        says="8 or 16 bits",
    ),
    "blank picture": Broken(new_picture(lambda array: array * np.uint8(0)), {"blank-picture": ONE}),
    # sizes
    "mask of another size": Broken(new_mask(lambda mask: mask[:-1]), {"size-mismatch": ONE}),
    "mask transposed": Broken(new_mask(lambda mask: mask.T.copy()), {"size-mismatch": ONE}),
    "EXIF sideways": Broken(turned(6), {"exif-mismatch": ONE}),
    "EXIF upside down": Broken(turned(3), {"exif-turned": ONE}),
    # values
    "NaN in a TIFF mask": Broken(floating(np.nan), {"unreadable": ONE}, says="NaN"),
    "infinity in a TIFF mask": Broken(floating(np.inf), {"unreadable": ONE}, says="infin"),
    "fractions in a TIFF mask": Broken(floating(0.5), {"unreadable": ONE}, says="fractions"),
    "NaN in an array": Broken(
        lambda root: masks_as_arrays(root, array_of_nan), {"unreadable": ONE}, says="NaN"
    ),
    "array cut short": Broken(cut_array, {"unreadable": ONE}),
    "pickle for an array": Broken(
        lambda root: masks_as_arrays(root, lambda _: np.array([{}], object)),
        {"unreadable": ONE},
        says="never read",
    ),
    "one-hot with two hot": Broken(one_hot, {"unreadable": ONE}, says="one-hot"),
    "negative value": Broken(
        new_mask(negative, ".tif"), {"unknown-values": ONE, "mask-bit-depth": ONE}, says="unknown values: -1"
    ),
    "forgotten class": Broken(new_mask(corner(7)), {"unknown-values": ONE}, says="7"),
    "0/255 without dataset.yaml": Broken(
        keys("", mask=lambda seed: disc(seed) * np.uint8(255)), {"classes-not-clear": ()}, says="255"
    ),
    "0/255 and two classes": Broken(
        keys(PLAIN, mask=lambda seed: disc(seed) * np.uint8(255)),
        {"classes-not-clear": ()},
        says="255 .disc.",
    ),
    "0/255 taken for ignore": Broken(
        keys(
            PLAIN + "values: {0: ground, 1: disc, 255: ignore}\n",
            mask=lambda seed: disc(seed) * np.uint8(255),
        ),
        {"object-ignored": ALL, "missing-class": ()},
    ),
    "one mask of 0/255": Broken(new_mask(lambda mask: mask * np.uint8(255)), {"object-ignored": ONE}),
    "0/1/255 without 255": Broken(
        keys(PLAIN + "values: {0: ground, 1: disc}\n", mask=lambda seed: corner(255)(disc(seed))),
        {"unknown-values": ALL},
        says="255",
    ),
    "ids one too high": Broken(
        keys("classes: [ground, disc, box]\n", mask=lambda seed: boxed(seed) + np.uint8(1)),
        {"off-by-one": ALL},
        says="1 to 3",
    ),
    "colours and no table": Broken(keys(PLAIN, mask=painted), {"coloured-masks": ALL}, says="#c83c5a"),
    "ids in the red channel": Broken(
        new_mask(in_red), {"coloured-masks": ONE, "mask-bit-depth": ONE}, says="#010000"
    ),
    "ids saved as RGB": Broken(new_mask(lambda mask: mask[..., None].repeat(3, -1)), {"mask-bit-depth": ONE}),
    "palette among numbers": Broken(on_sound(palette_mask), {"mask-bit-depth": ONE}),
    "GIF mask": Broken(on_sound(gif_mask), {"mask-bit-depth": ONE}),
    "blurred edges": Broken(
        keys(
            PLAIN + "values: {0: ground, 255: disc}\n", mask=lambda seed: blurred(disc(seed) * np.uint8(255))
        ),
        {"anti-aliased-masks": ALL},
    ),
    "blurred colours": Broken(
        keys(
            PLAIN + 'values: {"#0a141e": ground, "#c83c5a": disc}\n', mask=lambda seed: blurred(painted(seed))
        ),
        {"anti-aliased-masks": ALL},
    ),
    "JPEG masks": Broken(jpeg_masks, {"jpeg-masks": ALL}),
    "JPEG mask, still sound": Broken(clean_jpeg, {"jpeg-masks-clean": ONE}),
    "one mask of background": Broken(new_mask(lambda mask: mask * np.uint8(0)), {"only-background": ONE}),
    "all masks of background": Broken(
        keys(PLAIN, mask=lambda seed: disc(seed) * np.uint8(0)), {"only-background": ALL, "missing-class": ()}
    ),
    "mask of one object": Broken(
        new_mask(lambda mask: mask * np.uint8(0) + np.uint8(1)), {"constant-mask": ONE}
    ),
    "nothing labelled": Broken(
        new_mask(lambda mask: mask * np.uint8(0) + np.uint8(255)), {"nothing-labelled": ONE}
    ),
    "same mask on two": Broken(new_mask(lambda _: disc(3)), {"repeated-mask": ("train01", "train02")}),
    # pairs and ids
    "mask is missing": Broken(on_sound(lambda root: mask_file(root).unlink()), {"missing-masks": ONE}),
    "mask without a picture": Broken(on_sound(without_picture), {"masks-without-pictures": ("train77",)}),
    "mask in other letters": Broken(
        on_sound(other_case),
        {"missing-masks": ONE, "masks-without-pictures": ("TRAIN01",)},
        says=r"TRAIN01\.png differs only by case",
    ),
    "é in two forms": Broken(
        on_sound(decomposed),
        {"missing-masks": ("é",), "masks-without-pictures": (unicodedata.normalize("NFD", "é"),)},
        says="the form of a letter",
    ),
    "two pictures of one id": Broken(on_sound(same_id), {"duplicate-ids": ONE}),
    "two pictures of one id, names again in val": Broken(
        same_names, {"duplicate-ids": ("train/01",), "missing-masks": ("val/02",)}
    ),
    "two masks of one id": Broken(on_sound(same_id_of_masks), {"duplicate-ids": ONE}),
    "ids that differ by case": Broken(on_sound(alike_ids), {"ids-alike": ("Train01", "train01")}),
    "odd names": Broken(on_sound(odd_and_cut), {"unreadable": ODD}),
    "seven faults at once": Broken(
        many_faults,
        {
            "missing-masks": ("train00",),
            "duplicate-ids": ("train01",),
            "split-overlap": ("train02",),
            "missing-pictures": ("val77",),
            "unreadable": ("train03",),
            "size-mismatch": ("train04",),
            "unknown-values": ("train05",),
        },
    ),
    "no mask can be read": Broken(
        on_sound(lambda root: [mask_file(root, name).write_text("nothing") for name in ALL], keys=""),
        {"unreadable": ALL},
    ),
    # lists and splits
    "train is in test": Broken(on_flat(listed("test", *TRAIN)), {"split-overlap": TRAIN}),
    "list in UTF-16": Broken(
        on_flat(lambda root: (root / "test.txt").write_text("test00", encoding="utf-16")),
        refused=r"test\.txt cannot be read",
    ),
    "id in two lists": Broken(on_flat(listed("test", "train01")), {"split-overlap": ONE}),
    "list names a missing id": Broken(
        on_flat(listed("train", "train77", "train78")), {"missing-pictures": ("train77", "train78")}
    ),
    "list names a path outside": Broken(
        on_flat(listed("train", "../../etc/passwd")),
        refused=r"train\.txt holds the id '\.\./\.\./etc/passwd'",
    ),
    "list is not there": Broken(
        keys(
            PLAIN
            + 'images: "train/images/{id}.png"\nmasks: "train/masks/{id}.png"\nsplits: {train: nope.txt}\n'
        ),
        refused=r"nope\.txt cannot be read",
    ),
    "list is empty": Broken(
        on_flat(lambda root: (root / "test.txt").write_text("")), {"empty-split": ()}, says="test"
    ),
    "split without files": Broken(empty_folder, {"empty-split": ()}, says="test"),
    "class in no mask": Broken(
        keys("classes: [ground, disc, tree]\n"), {"missing-class": ()}, says="no pixel of tree"
    ),
    "class not in test": Broken(
        keys("classes: [ground, disc, box]\n", mask=lambda seed: boxed(seed) if seed < 21 else disc(seed)),
        {"missing-class": ()},
        says="test has no pixel of box",
    ),
    "group in two splits": Broken(
        on_sound(lambda root: patients(root, ALL), keys=PLAIN + "groups: patients.csv\n"),
        {"groups-across-splits": ("train01", "test00")},
    ),
    "frames of one video": Broken(
        steps(
            twin("train01", "train02", Image.Image.copy),
            lambda root: (root / "videos.csv").write_text(
                "".join(f"{name},{'one' if name in ('train01', 'train02') else name}\n" for name in ALL)
            ),
            lambda root: (root / "dataset.yaml").write_text(PLAIN + "groups: videos.csv\n"),
        ),
        {"twins-of-a-group": ("train01", "train02")},
    ),
    "groups miss an id": Broken(
        on_sound(lambda root: patients(root, ALL[:-2]), keys=PLAIN + "groups: patients.csv\n"),
        {"not-opened": ()},
        says=r"patients\.csv has no group for test02",
    ),
    # twins, outliers, drift
    "same picture twice": Broken(
        twin("train01", "train02", Image.Image.copy), {"twins": ("train01", "train02")}
    ),
    "test picture in train": Broken(
        twin("train01", "test02", Image.Image.copy), {"twins-across-splits": ("train01", "test02")}
    ),
    "test picture in train, larger": Broken(
        twin("train01", "test02", lambda shown: shown.resize((72, 60), Image.Resampling.BICUBIC)),
        {"twins-across-splits": ("train01", "test02")},
    ),
    "test picture in train, as JPEG": Broken(
        twin("train01", "test02", Image.Image.copy, quality=50),
        {"twins-across-splits": ("train01", "test02")},
    ),
    "test picture in train, cut": Broken(
        twin("train01", "test02", lambda shown: shown.crop((2, 1, WIDTH, HEIGHT))),
        {"twins-across-splits": ("train01", "test02")},
    ),
    "picture unlike the others": Broken(
        lambda root: many(root, {"train": 200, "val": 12, "test": 12}, stripes), {"outliers": ("train099",)}
    ),
    "test is darker": Broken(
        lambda root: many(root, {"train": 60, "val": 25, "test": 40}, darker),
        {"drift": ()},
        says="test: brightness",
    ),
    # dataset.yaml
    "typo in a key": Broken(
        keys("clases: [ground, disc]\n"), refused="unknown key 'clases'; did you mean classes"
    ),
    "class that is not listed": Broken(
        keys(PLAIN + "values: {0: ground, 1: disk}\n"), refused=r"dataset\.yaml.*maps 1 to 'disk'.*disc"
    ),
    "class listed twice": Broken(keys("classes: [disc, disc]\n"), refused="dataset.yaml.*lists 'disc' twice"),
    "values without classes": Broken(keys("values: {0: ground}\n"), refused="values without classes"),
    "key of values that is nothing": Broken(
        keys(PLAIN + "values: {zero: ground, 1: disc}\n"), refused="dataset.yaml.*'zero'"
    ),
    "template without {id}": Broken(
        keys(PLAIN + 'images: "train/images/x.png"\nmasks: "train/masks/{id}.png"\n'),
        refused=r"images: .* has no \{id\}",
    ),
    "target outside": Broken(
        keys(PLAIN + 'targets: {depth: "../{id}.npy"}\n'),
        refused=r"\.\./\{id\}\.npy .* no template below the root",
    ),
    "path that is not there": Broken(
        keys("path: elsewhere\n"), refused=r"path: elsewhere in .*dataset\.yaml"
    ),
    "no YAML": Broken(
        keys("classes: [ground\nvalues: {"), refused=r"dataset\.yaml is no YAML that can be read"
    ),
    "exclude that is no list": Broken(
        keys("exclude: train01\n"), refused=r"exclude: 'train01' in dataset\.yaml"
    ),
    "YAML that grows": Broken(
        keys(grows()), refused=r"dataset\.yaml is nested too deeply or holds YAML aliases"
    ),
    "unknown format": Broken(keys("format: vok\n"), refused="names the format 'vok'; did you mean voc"),
    "classes that are no names": Broken(
        keys("classes: [yes, no]\n"), refused=r"classes\.0: True in dataset\.yaml"
    ),
    "exclude names nobody": Broken(
        keys(PLAIN + "exclude: [train01, trian02]\n"), {"exclude-unknown": ("trian02",)}, says="is it train02"
    ),
    "validation drawn from nowhere": Broken(
        on_flat(lambda root: (root / "val.txt").unlink(), keys=PLAIN + "validation: {from: dev}\n"),
        {"not-opened": ()},
        says="validation is drawn from 'dev', which is empty",
    ),
    "validation listed and drawn": Broken(
        on_flat(lambda _: None, keys=PLAIN + "validation: {fraction: 0.2}\n"),
        {"not-opened": ()},
        says=r"dataset\.yaml of data lists a validation split and draws one",
    ),
    "empty folder": Broken(lambda root: root.mkdir(exist_ok=True), refused="is empty"),
    "pictures without masks": Broken(
        lambda root: save(picture(1), root / "photos" / "1.jpg"),
        refused="found photos",
    ),
    # targets
    "target is missing": Broken(on_targets(lambda root: target_file(root).unlink()), {"targets": ONE}),
    "target of another size": Broken(
        on_targets(lambda root: np.save(target_file(root), np.ones((9, 9), np.float32))), {"targets": ONE}
    ),
    "target cut short": Broken(on_targets(lambda root: cut(target_file(root))), {"targets": ONE}),
    # drawn masks
    "COCO cut short": Broken(
        as_form("coco", lambda root: cut(root / COCO_FILE)), refused=r"train\.json is no JSON"
    ),
    "COCO: unknown category": Broken(
        as_form("coco", edited(COCO_FILE, lambda whole: of_first(whole).update(category_id=9))),
        {"unreadable": ONE},
        says="category 9",
    ),
    "COCO: run lengths of another size": Broken(
        as_form(
            "coco",
            edited(
                COCO_FILE,
                lambda whole: of_first(whole).update(segmentation={"size": [9, 9], "counts": [40, 41]}),
            ),
        ),
        {"unreadable": ONE},
        says="run lengths for",
    ),
    "COCO: polygon outside": Broken(
        as_form("coco", edited(COCO_FILE, outside)), {"shapes-outside": ONE, "only-background": ONE}
    ),
    "COCO: polygon of NaN": Broken(
        as_form(
            "coco",
            edited(
                COCO_FILE, lambda whole: of_first(whole).update(segmentation=[[1, 1, float("nan"), 9, 9, 9]])
            ),
        ),
        {"unreadable": ONE},
        says="nan",
    ),
    "COCO: picture is missing": Broken(
        as_form("coco", lambda root: next(root.rglob("train01.png")).unlink()), {"missing-pictures": ONE}
    ),
    "COCO: annotations of no picture": Broken(
        as_form("coco", edited(COCO_FILE, lambda whole: of_first(whole).update(image_id=999))),
        refused=r"train\.json has annotations of the image 999",
    ),
    "COCO: file listed twice": Broken(
        as_form(
            "coco", edited(COCO_FILE, lambda whole: whole["images"].append({**whole["images"][1], "id": 999}))
        ),
        {"duplicate-ids": ONE},
    ),
    "COCO panoptic: unknown segment": Broken(panoptic, {"unreadable": ONE}, says="segment 9"),
    "YOLO: class beyond names": Broken(lambda root: yolo(root, "3 .1 .1 .2 .1 .2 .2\n"), {"unreadable": ONE}),
    "YOLO: box": Broken(lambda root: yolo(root, "0 .5 .5 .2 .2\n"), {"unreadable": ONE}, says="a box"),
    "YOLO: pixels for fractions": Broken(
        lambda root: yolo(root, "0 120 80 160 80 160 120\n"), {"shapes-outside": ONE}
    ),
    "YOLO: NaN": Broken(lambda root: yolo(root, "0 .1 .1 nan .1 .2 .2\n"), {"unreadable": ONE}),
    "LabelMe cut short": Broken(cut_labelme, {"unreadable": ONE}, says=r"train01\.json is no JSON"),
    "LabelMe: line": Broken(
        lambda root: labelme(root, line_shape), {"unreadable": ONE}, says="covers no area"
    ),
    "LabelMe: polygon outside": Broken(lambda root: labelme(root, far_shape), {"shapes-outside": ONE}),
    "LabelMe: of another size": Broken(
        lambda root: labelme(root, lambda whole: whole.update(imageWidth=96)), {"size-mismatch": ONE}
    ),
    "Label Studio: no label": Broken(
        lambda root: label_studio(root, no_label), {"unreadable": ONE}, says="no label"
    ),
    "Label Studio: point": Broken(
        lambda root: label_studio(root, keypoint), {"unreadable": ONE}, says="keypoint"
    ),
    "Label Studio: picture is missing": Broken(
        lambda root: label_studio(root, lambda _: (root / "pictures" / "train01.jpg").unlink()),
        {"missing-pictures": ONE},
    ),
    "Label Studio: two tasks of one picture": Broken(
        lambda root: label_studio(root, lambda tasks: tasks.append({**tasks[1], "id": 99})),
        {"duplicate-ids": ONE},
    ),
    # other layouts
    "VOC: index beyond the classes": Broken(voc_value, {"unknown-values": ONE}, says="40"),
    "VOC: list names a missing id": Broken(voc_list, {"missing-pictures": ("2008_000001",)}),
    "CVAT: colour not in the table": Broken(cvat, {"unknown-values": ONE}, says="#010203"),
    "CVAT: table that is none": Broken(
        lambda root: cvat(root, "disc=1,2,3\n"), refused=r"labelmap\.txt holds the line 'disc=1,2,3'"
    ),
    "CamVid: value 12": Broken(camvid, {"unknown-values": ("0001TP_0001",)}),
    "Oxford pets: value 0": Broken(oxford, {"unknown-values": ("cat_1",)}),
    "npz: pickles": Broken(
        lambda root: npz(root, lambda arrays: arrays.update(masks=np.array([{}] * 16, object))),
        refused=r"train\.npz: masks",
    ),
    "npz: lengths differ": Broken(
        lambda root: npz(root, lambda arrays: arrays.update(masks=arrays["masks"][:-2])),
        refused=r"train\.npz: images is \(16, .* masks is \(14,",
    ),
    "npz: floating-point masks": Broken(
        lambda root: npz(root, lambda arrays: arrays.update(masks=arrays["masks"] / 2)),
        refused=r"train\.npz: masks is float64",
    ),
    "npz: value one too high": Broken(
        steps(
            lambda root: npz(root, lambda arrays: arrays["masks"].__setitem__((1, slice(6), slice(6)), 2)),
            lambda root: (root / "dataset.yaml").write_text("format: npz\nclasses: [ground, disc]\n"),
        ),
        {"unknown-values": ("train_00001",)},
    ),
    "npz cut short": Broken(
        steps(lambda root: npz(root, lambda _: None), lambda root: cut(root / "train.npz")),
        refused=r"train\.npz is no \.npz",
    ),
    "GeoTIFF at another place": Broken(lambda root: geotiff(root, elsewhere), {"place-mismatch": ONE}),
    "GeoTIFF of another size": Broken(lambda root: geotiff(root, smaller), {"size-mismatch": ONE}),
    "GeoTIFF at another place or of another size": Broken(
        lambda root: geotiff(root, two_rasters),
        {"place-mismatch": (TRAIN[0], *TRAIN[2:8]), "size-mismatch": ONE},
    ),
    "GeoTIFF: labels without data": Broken(lambda root: geotiff(root, no_data), {"nothing-labelled": ONE}),
    "GeoTIFF of floating point": Broken(
        lambda root: geotiff(root, float_raster), {"unreadable": ONE}, says="window"
    ),
    "GeoTIFF cut short": Broken(cut_raster, {"unreadable": ONE}),
    "GeoTIFF: band that is not there": Broken(
        lambda root: geotiff(root, keys="format: geotiff\nclasses: [ground, disc]\nbands: [4, 3, 2]\n"),
        {"unreadable": TRAIN[:8]},
        says=r"bands: \[4, 3, 2\] of .*train00\.tif, which has 3",
    ),
    "stack of another length": Broken(stacks, {"size-mismatch": ("cell1",)}),
    "NIfTI of another shape": Broken(
        lambda root: nifti(root, lambda labels, grid: (labels[:, :, :2], grid)), {"size-mismatch": ("p1",)}
    ),
    "NIfTI of another spacing": Broken(
        lambda root: nifti(root, lambda labels, grid: (labels, np.diag([1.0, 1, 5, 1]))),
        {"place-mismatch": ("p1",)},
    ),
    "NIfTI cut short": Broken(
        cut_volume, {"unreadable": ("p1@0000", "p1@0001", "p1@0002")}, says="cut short|cannot be read"
    ),
    "DICOM without pixels": Broken(lambda root: dicom(root, no_pixels), {"unreadable": ONE}),
    "DICOM that is text": Broken(
        lambda root: dicom(root, lambda root: (root / "images" / "train01.dcm").write_text("hello")),
        {"unreadable": ONE},
    ),
}
"""Name -> a data set with that fault."""


SOUND: dict[str, Broken] = {
    "all in order": Broken(sound),
    "pictures with alpha": Broken(each_picture(lambda shown, mask: np.dstack([shown, mask * np.uint8(255)]))),
    "16 bits in full": Broken(each_picture(lambda shown, _: shown[..., 0].astype(np.uint16) * 257)),
    "masks of one bit": Broken(keys(PLAIN, mask=lambda seed: disc(seed).astype(bool))),
    "what systems leave behind": Broken(on_sound(litter)),
    "lists and dataset.yaml of Windows": Broken(on_flat(windows)),
    "0/1/255": Broken(keys(PLAIN, mask=lambda seed: corner(255)(disc(seed)))),
    "0/255 and said so": Broken(
        keys(PLAIN + "values: {0: ground, 255: disc}\n", mask=lambda seed: disc(seed) * np.uint8(255))
    ),
    "colours and a table": Broken(
        keys(PLAIN + 'values: {"#0a141e": ground, "#c83c5a": disc}\n', mask=painted)
    ),
    "ids from 1": Broken(
        keys(PLAIN + "values: {1: ground, 2: disc}\n", mask=lambda seed: disc(seed) + np.uint8(1))
    ),
    "NIfTI": Broken(nifti),
    "arrays": Broken(masks_as_arrays),
    "GeoTIFF": Broken(geotiff),
    "COCO": Broken(as_form("coco", lambda _: None)),
    "VOC as converted": Broken(as_form("voc", lambda _: None)),
    "odd names": Broken(on_sound(named_oddly)),
    "list with what it excludes": Broken(
        on_flat(listed("train", "train77"), keys=PLAIN + "exclude: [train77]\n")
    ),
    "trainval beside train and val": Broken(
        on_flat(lambda root: (root / "trainval.txt").write_text("\n".join([*TRAIN, *VAL])))
    ),
    "VOC": Broken(voc),
    "YOLO": Broken(yolo),
    "LabelMe": Broken(labelme),
    "Label Studio": Broken(lambda root: label_studio(root, lambda _: None)),
    "npz": Broken(lambda root: npz(root, lambda _: None)),
    "DICOM": Broken(lambda root: dicom(root, lambda _: None)),
}
"""What looks odd and is right."""

if __name__ == "__main__":
    for name, broken in CORPUS.items():
        place = Path(sys.argv[1]) / name.replace("/", "-")
        place.mkdir(parents=True)
        broken.build(place)
