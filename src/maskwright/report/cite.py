"""What to cite beside a score: this software, the network's papers, the data set's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maskwright.config import PRESETS, ModelConfig


@dataclass(frozen=True)
class Work:
    """One entry of a BibTeX file."""

    key: str
    kind: str
    authors: str
    title: str
    year: int
    where: str
    """Journal, proceedings or preprint number."""

    @property
    def bibtex(self) -> str:
        place = {"article": "journal", "inproceedings": "booktitle"}.get(self.kind, "howpublished")
        fields = {"author": self.authors, "title": f"{{{self.title}}}", "year": self.year, place: self.where}
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@{self.kind}{{{self.key},\n{lines}}}"


def _paper(key: str, authors: str, title: str, where: str, kind: str = "inproceedings") -> Work:
    return Work(key, kind, authors, title, int(key[-4:]), where)


_UNET = _paper(
    "ronneberger2015",
    "Ronneberger, Olaf and Fischer, Philipp and Brox, Thomas",
    "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    "MICCAI",
)
_RESNET = _paper(
    "he2016",
    "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
    "Deep Residual Learning for Image Recognition",
    "CVPR",
)
_SETR = _paper(
    "zheng2021",
    "Zheng, Sixiao and others",
    "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers",
    "CVPR",
)
_SMP = Work(
    "iakubovskii2019",
    "misc",
    "Iakubovskii, Pavel",
    "Segmentation Models Pytorch",
    2019,
    "software",
)
_TIMM = Work("wightman2019", "misc", "Wightman, Ross", "PyTorch Image Models", 2019, "software")

NETWORKS: dict[str, tuple[Work, ...]] = {
    "unet": (_UNET,),
    "resnet34-unet": (_UNET, _RESNET),
    "smp-unet": (_UNET,),
    "unetplusplus": (
        _paper(
            "zhou2018",
            "Zhou, Zongwei and Siddiquee, Md Mahfuzur Rahman and Tajbakhsh, Nima and Liang, Jianming",
            "UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
            "DLMIA",
        ),
    ),
    "dual-unet": (
        _paper(
            "jha2020",
            "Jha, Debesh and Riegler, Michael A. and Johansen, Dag and Halvorsen, P{\\aa}l and "
            "Johansen, H{\\aa}vard D.",
            "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image Segmentation",
            "CBMS",
        ),
    ),
    "setr-naive": (_SETR,),
    "setr-pup": (_SETR,),
    "deeplabv3plus": (
        _paper(
            "chen2018",
            "Chen, Liang-Chieh and Zhu, Yukun and Papandreou, George and Schroff, Florian and Adam, Hartwig",
            "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
            "ECCV",
        ),
    ),
    "pspnet": (
        _paper(
            "zhao2017",
            "Zhao, Hengshuang and Shi, Jianping and Qi, Xiaojuan and Wang, Xiaogang and Jia, Jiaya",
            "Pyramid Scene Parsing Network",
            "CVPR",
        ),
    ),
    "fpn": (
        _paper(
            "lin2017",
            "Lin, Tsung-Yi and Doll{\\'a}r, Piotr and Girshick, Ross and He, Kaiming and "
            "Hariharan, Bharath and Belongie, Serge",
            "Feature Pyramid Networks for Object Detection",
            "CVPR",
        ),
    ),
    "upernet": (
        _paper(
            "xiao2018",
            "Xiao, Tete and Liu, Yingcheng and Zhou, Bolei and Jiang, Yuning and Sun, Jian",
            "Unified Perceptual Parsing for Scene Understanding",
            "ECCV",
        ),
    ),
    "segformer": (
        _paper(
            "xie2021",
            "Xie, Enze and Wang, Wenhai and Yu, Zhiding and Anandkumar, Anima and Alvarez, Jose M. and Luo, Ping",
            "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
            "NeurIPS",
        ),
    ),
    "dpt": (
        _paper(
            "ranftl2021",
            "Ranftl, Ren{\\'e} and Bochkovskiy, Alexey and Koltun, Vladlen",
            "Vision Transformers for Dense Prediction",
            "ICCV",
        ),
    ),
    "linknet": (
        _paper(
            "chaurasia2017",
            "Chaurasia, Abhishek and Culurciello, Eugenio",
            "LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation",
            "VCIP",
        ),
    ),
    "manet": (
        _paper(
            "fan2020",
            "Fan, Tongle and Wang, Guanglei and Li, Yan and Wang, Hongrui",
            "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation",
            "IEEE Access",
            "article",
        ),
    ),
    "pan": (
        _paper(
            "li2018",
            "Li, Hanchao and Xiong, Pengfei and An, Jie and Wang, Lingxue",
            "Pyramid Attention Network for Semantic Segmentation",
            "BMVC",
        ),
    ),
}
"""By `model.name`, or by what stands before its encoder."""

PARTS: dict[str, Work] = {
    "gate": _paper(
        "oktay2018",
        "Oktay, Ozan and others",
        "Attention U-Net: Learning Where to Look for the Pancreas",
        "arXiv:1804.03999",
        "misc",
    ),
    "channel": _paper(
        "woo2018",
        "Woo, Sanghyun and Park, Jongchan and Lee, Joon-Young and Kweon, In So",
        "CBAM: Convolutional Block Attention Module",
        "ECCV",
    ),
    "aspp": _paper(
        "chen2017",
        "Chen, Liang-Chieh and Papandreou, George and Schroff, Florian and Adam, Hartwig",
        "Rethinking Atrous Convolution for Semantic Image Segmentation",
        "arXiv:1706.05587",
        "misc",
    ),
    "transformer": _paper(
        "vaswani2017", "Vaswani, Ashish and others", "Attention Is All You Need", "NeurIPS"
    ),
}
PARTS["spatial"] = PARTS["channel"]

DATA: dict[str, Work] = {
    "oxford-pet": _paper(
        "parkhi2012",
        "Parkhi, Omkar M. and Vedaldi, Andrea and Zisserman, Andrew and Jawahar, C. V.",
        "Cats and Dogs",
        "CVPR",
    ),
    "camvid": _paper(
        "brostow2009",
        "Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto",
        "Semantic Object Classes in Video: A High-Definition Ground Truth Database",
        "Pattern Recognition Letters",
        "article",
    ),
}
"""By the data's format."""


def works(model: ModelConfig, data_format: str, version: str) -> list[Work]:
    """This software, then the papers of the network, of its parts and of the data, each once."""
    own = Work(
        "maskwright",
        "misc",
        "{The maskwright maintainers}",
        "maskwright: from images and masks to a segmentation model",
        2026,
        f"version {version}, Apache-2.0",
    )
    data = [DATA[data_format]] if data_format in DATA else []
    return list(dict.fromkeys([own, *_of_network(model), *data]))


def _of_network(model: ModelConfig) -> Iterator[Work]:
    family, _, encoder = model.name.partition(":")
    yield from NETWORKS.get("unet" if family in PRESETS else family, ())
    if encoder:
        yield from (_SMP, _TIMM)
    yield from (PARTS[part] for part in (*model.attention, *model.bottleneck))
