"""What to cite: every network has its paper, and BibTeX can be read."""

from __future__ import annotations

import re

import pytest

from maskwright.config import PRESETS, ModelConfig
from maskwright.models import MODELS, zoo
from maskwright.report.cite import DATA, NETWORKS, PARTS, works


def test_every_network_has_its_paper() -> None:
    assert set(NETWORKS) == {*MODELS, *zoo.ARCHITECTURES, *zoo.SETRS} - set(PRESETS)
    for name in [*MODELS, *PRESETS, *zoo.names()]:
        assert len(works(ModelConfig(name=name), "folder", "1.0")) >= 2, name


def test_parts_encoders_and_data_are_named_once() -> None:
    model = ModelConfig(name="unet", attention=("channel", "spatial"), bottleneck=("aspp",))
    keys = [work.key for work in works(model, "oxford-pet", "1.0")]
    assert keys == ["maskwright", "ronneberger2015", "woo2018", "chen2017", "parkhi2012"]
    keys = [work.key for work in works(ModelConfig(name="fpn:convnext_tiny"), "folder", "1.0")]
    assert keys == ["maskwright", "lin2017", "iakubovskii2019", "wightman2019"]


@pytest.mark.parametrize(
    "work", [*(w for group in NETWORKS.values() for w in group), *PARTS.values(), *DATA.values()]
)
def test_entries_are_whole(work: object) -> None:
    text = getattr(work, "bibtex")  # noqa: B009
    assert text.count("{") == text.count("}")
    assert re.fullmatch(r"@(inproceedings|article|misc)\{[a-z]+\d{4},\n(  \w+ = \{.+\},\n){4}\}", text), text
    key, year = re.findall(r"@\w+\{[a-z]+(\d{4})|year = \{(\d{4})\}", text)
    assert key[0] == year[1]
