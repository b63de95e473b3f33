"""Names of networks with their parts: what they fill in, what wins over them, and that a written config says it all."""

from __future__ import annotations

import pytest

from maskwright.config import (
    PRESETS,
    ModelConfig,
    Recipe,
    flatten,
    load_recipe,
    make_recipe,
    parse_overrides,
)
from maskwright.errors import ConfigError
from maskwright.models import MODELS, build_model

PARTS: dict[str, dict[str, object]] = {
    "attention-unet": {"attention": ["gate"]},
    "cbam-unet": {"attention": ["channel", "spatial"]},
    "aspp-unet": {"bottleneck": ["aspp"]},
    "transformer-unet": {"bottleneck": ["transformer"]},
    "subpixel-unet": {"upsample": "subpixel"},
    "aspp-gate-unet": {"attention": ["gate"], "bottleneck": ["aspp"], "deep_supervision": "levels"},
}


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in build_model(config, 1, 3).state_dict().items()}


@pytest.mark.parametrize("name", PARTS)
def test_a_name_is_the_unet_with_its_parts(name: str) -> None:
    config = ModelConfig(name=name, width=4, depth=2)
    written = ModelConfig.model_validate({"width": 4, "depth": 2, **PARTS[name]})
    assert config.model_copy(update={"name": "unet"}) == written
    assert config.name == name
    assert shapes(config) == shapes(written) != shapes(ModelConfig(width=4, depth=2))


def test_the_table_is_complete() -> None:
    assert PARTS.keys() == PRESETS.keys()
    assert PRESETS.keys() <= MODELS.keys()


@pytest.mark.parametrize("name", PARTS)
def test_a_written_config_is_complete_and_reads_as_the_same_network(name: str) -> None:
    config = ModelConfig(name=name, width=4, depth=2)
    again = ModelConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert shapes(again) == shapes(config)
    assert config.model_dump(mode="json").items() >= PARTS[name].items()
    recipe = Recipe(model=config)
    assert make_recipe(flatten(recipe.model_dump(mode="json"))) == recipe


def test_a_key_with_another_value_wins() -> None:
    recipe = load_recipe(
        None, parse_overrides(["model.name=attention-unet", "model.attention=[spatial, gate]"])
    )
    assert recipe.model.attention == ("spatial", "gate")
    assert ModelConfig(name="subpixel-unet", upsample="bilinear").upsample == "bilinear"
    assert ModelConfig(name="aspp-gate-unet", deep_supervision="fused").bottleneck == ("aspp",)


def test_a_recipe_written_in_full_takes_another_name() -> None:
    """`train --recipe FULL.yaml model.name=attention-unet`: every key is there, at its default."""
    full = flatten(Recipe().model_dump(mode="json"))
    assert make_recipe(full | {"model.name": "attention-unet"}).model.attention == ("gate",)
    assert build_model(ModelConfig(), 1, 2, name="aspp-unet", width=4).state_dict().keys() == (
        build_model("unet", 1, 2, bottleneck=["aspp"], width=4).state_dict().keys()
    )


def test_other_names_get_no_parts() -> None:
    for name in ("unet", "resnet34-unet", "another"):
        assert ModelConfig(name=name).model_dump(exclude={"name"}) == ModelConfig().model_dump(
            exclude={"name"}
        )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("gate", ("gate",)),
        ("gate,channel", ("gate", "channel")),
        ("'gate, spatial'", ("gate", "spatial")),
        ("[channel, gate]", ("channel", "gate")),
        ("[]", ()),
    ],
)
def test_ways_to_write_a_list(word: str, expected: tuple[str, ...]) -> None:
    assert load_recipe(None, parse_overrides([f"model.attention={word}"])).model.attention == expected


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model.attention=gates", r"model\.attention=gates in the recipe: Input should be 'gate', 'channel'"),
        ("model.bottleneck=[aspp, 3]", r"model\.bottleneck=3"),
        ("model.bottleneck=[aspp, aspp, aspp]", r"model\.bottleneck=.*at most 2 items"),
        ("model.deep_supervision=yes please", r"model\.deep_supervision=yes please .*'levels'"),
        ("model.name=[unet]", r"model\.name=\['unet'\]"),
    ],
)
def test_bad_values_are_named(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_recipe(None, parse_overrides([word]))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("unetplusplus", {"attention": ["gate", "channel"]}, r"model\.attention=gate,channel: unetplusplus has no"),
        ("unetplusplus", {"bottleneck": ["aspp"]}, r"unet and resnet34-unet do; leave it at \[\] here"),
        ("dual-unet", {"upsample": "subpixel"}, r"model\.upsample=subpixel: dual-unet .* leave it at transpose"),
    ],
)  # fmt: skip
def test_a_part_that_a_network_does_not_have_is_refused(
    name: str, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        build_model(name, 3, 2, width=4, **changes)
