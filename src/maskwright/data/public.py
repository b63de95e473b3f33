"""Public data sets: where their authors keep them, under which licence, and how their files are read.

A checksum stands here only with the place where it is published. A set without one is pinned in the user's cache when
it is first pulled. Sizes are those of the servers; they serve the estimate of disk and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Archive:
    """One file to fetch."""

    url: str
    size: int
    """Bytes, roughly where no source gives them exactly."""
    folders: Mapping[str, str]
    """Folder inside the archive ("" is its root) -> folder of the data set."""
    checksum: str | None = None
    """`sha256:HEX` or `md5:HEX`."""
    published: str = ""
    """Where the checksum stands."""

    @property
    def file(self) -> str:
        return unquote(PurePosixPath(urlsplit(self.url).path).name)


@dataclass(frozen=True)
class PublicSet:
    title: str
    page: str
    licence: str
    citation: str
    archives: tuple[Archive, ...]
    config: Mapping[str, object] = field(default_factory=dict)
    """What its dataset.yaml says; empty where the layout is recognised."""
    note: str = ""
    """What to know before a number from it is compared with a paper's."""

    @property
    def size(self) -> int:
        return sum(archive.size for archive in self.archives)


_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets"
_PETS_SUMS = (
    "tensorflow/datasets, url_checksums/oxford_iiit_pet.txt; torchvision's md5 sums are of the same files"
)
_VOC = "VOCdevkit/VOC2012"
_LOVEDA_SUMS = "torchgeo, torchgeo/datasets/loveda.py, after the Zenodo record"
_CAMVID = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
LOVEDA_CLASSES = ("background", "building", "road", "water", "barren", "forest", "agriculture")
CAMVID_COLOURS = {
    "animal": "#408040",
    "archway": "#c00080",
    "bicyclist": "#0080c0",
    "bridge": "#008040",
    "building": "#800000",
    "car": "#400080",
    "cart or pram": "#4000c0",
    "child": "#c08040",
    "pole": "#c0c080",
    "fence": "#404080",
    "lane marking": "#8000c0",
    "other marking": "#c00040",
    "text": "#808040",
    "motorcycle": "#c000c0",
    "other moving": "#804040",
    "parking block": "#40c080",
    "pedestrian": "#404000",
    "road": "#804080",
    "shoulder": "#8080c0",
    "sidewalk": "#0000c0",
    "sign": "#c08080",
    "sky": "#808080",
    "SUV or pickup": "#4080c0",
    "traffic cone": "#000040",
    "traffic light": "#004040",
    "train": "#c04080",
    "tree": "#808000",
    "truck or bus": "#c080c0",
    "tunnel": "#400040",
    "other vegetation": "#c0c000",
    "wall": "#40c000",
}
"""label_colors.txt of the authors; black is void."""


def _loveda(archive: str, split: str) -> dict[str, str]:
    return {
        f"{archive}/{scene}/{kind}_png": f"{split}/{kind}/{scene.lower()}"
        for scene in ("Rural", "Urban")
        for kind in ("images", "masks")
    }


SETS: dict[str, PublicSet] = {
    "oxford-iiit-pet": PublicSet(
        title="Oxford-IIIT Pet: 7,349 photographs of cats and dogs with trimaps",
        page=f"{_PETS}/",
        licence="CC BY-SA 4.0; the copyright of the images stays with their owners",
        citation="O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar: Cats and Dogs. CVPR 2012",
        archives=(
            Archive(
                f"{_PETS}/data/images.tar.gz",
                791_918_971,
                {"images": "images"},
                "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                _PETS_SUMS,
            ),
            Archive(
                f"{_PETS}/data/annotations.tar.gz",
                19_173_078,
                {"annotations": "annotations"},
                "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                _PETS_SUMS,
            ),
        ),
    ),
    "voc2012": PublicSet(
        title="PASCAL VOC 2012, segmentation: 1,464 train and 1,449 validation photographs, 20 classes",
        page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        licence="flickr's terms of use hold for the images (Database Rights on the page); none is named for the labels",
        citation="M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman: "
        "The PASCAL Visual Object Classes Challenge 2012 (VOC2012) Results",
        archives=(
            Archive(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                1_999_639_040,
                {
                    f"{_VOC}/{folder}": folder
                    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
                },
                "md5:6cd6e144f989b92b3379bac3b3de84fd",
                "torchvision, torchvision/datasets/voc.py",
            ),
        ),
        config={
            "images": "JPEGImages/{id}.jpg",
            "masks": "SegmentationClass/{id}.png",
            "classes": list(VOC_CLASSES),
            "values": {**dict(enumerate(VOC_CLASSES)), 255: "ignore"},
            "splits": {
                "train": "ImageSets/Segmentation/train.txt",
                "validation": "ImageSets/Segmentation/val.txt",
            },
        },
        note="the labels of its test split are not public",
    ),
    "loveda": PublicSet(
        title="LoveDA: 4,191 aerial pictures of towns and country at 0.3 m, 7 classes of land cover (train and val)",
        page="https://doi.org/10.5281/zenodo.5706578",
        licence="CC BY-NC-SA 4.0: no commercial use",
        citation="J. Wang, Z. Zheng, A. Ma, X. Lu, Y. Zhong: LoveDA: A Remote Sensing Land-Cover Dataset for Domain "
        "Adaptive Semantic Segmentation. NeurIPS Datasets and Benchmarks 2021",
        archives=(
            Archive(
                "https://zenodo.org/records/5706578/files/Train.zip?download=1",
                4_021_669_263,
                _loveda("Train", "train"),
                "md5:de2b196043ed9b4af1690b3f9a7d558f",
                _LOVEDA_SUMS,
            ),
            Archive(
                "https://zenodo.org/records/5706578/files/Val.zip?download=1",
                2_425_958_254,
                _loveda("Val", "val"),
                "md5:84cae2577468ff0b5386758bb386d31d",
                _LOVEDA_SUMS,
            ),
        ),
        config={
            "images": "{split}/images/{id}.png",
            "masks": "{split}/masks/{id}.png",
            "classes": list(LOVEDA_CLASSES),
            "values": {0: "ignore", **dict(enumerate(LOVEDA_CLASSES, 1))},
            "splits": {"train": "train", "validation": "val"},
        },
        note="the labels of its test split are not public",
    ),
    "camvid": PublicSet(
        title="CamVid: 701 frames from a car in Cambridge, 960 x 720, 31 classes and void",
        page=f"{_CAMVID}/",
        licence="the authors' page names none and asks to be cited; ask them before other use than research",
        citation="G. J. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video: A high-definition ground "
        "truth database. Pattern Recognition Letters 30 (2009)",
        archives=(
            Archive(f"{_CAMVID}/files/701_StillsRaw_full.zip", 584_000_000, {"701_StillsRaw_full": "images"}),
            Archive(f"{_CAMVID}/data/LabeledApproved_full.zip", 17_000_000, {"": "labels"}),
        ),
        config={
            "images": "images/{id}.png",
            "masks": "labels/{id}_L.png",
            "classes": list(CAMVID_COLOURS),
            "values": {**{colour: name for name, colour in CAMVID_COLOURS.items()}, "#000000": "ignore"},
            "groups": "{id:before _}",
            "validation": {"fraction": 0.1},
        },
        note="not the 11 classes and the split of papers, which are SegNet's: no official address offers those",
    ),
}
