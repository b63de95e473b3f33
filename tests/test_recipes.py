"""The recipes inside the package: each can be built, and those of a ladder differ in what they say they do."""

from __future__ import annotations

import pytest
import torch

from maskwright.config import flatten, load_recipe, read_recipe_text, recipe_names
from maskwright.losses import make_loss
from maskwright.models import build_model
from maskwright.tensors import Target

MARS = [name for name in recipe_names() if name.startswith("mars/")]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_network_and_a_loss(name: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        build_model(recipe.model, 3, 2)
    make_loss(recipe.loss, None, deep_supervision=recipe.model.deep_supervision)


@pytest.mark.parametrize("name", MARS)
def test_the_ladder_s_losses_fit_its_networks(name: str) -> None:
    """The number of levels, and of class weights, shows in a step only."""
    recipe = load_recipe(name)
    weights = recipe.loss.class_weights
    loss = make_loss(
        recipe.loss,
        None if isinstance(weights, str) else torch.tensor(weights),
        deep_supervision=recipe.model.deep_supervision,
    )
    network = build_model(recipe.model.model_copy(update={"width": 4}), 1, 5)
    cost = loss(network(torch.rand(2, 1, 16, 32)), Target(torch.randint(0, 5, (2, 16, 32))))
    cost.backward()  # type: ignore[no-untyped-call]
    assert cost > 0


def difference(name: str, other: str) -> dict[str, object]:
    """Keys of `name` whose values `other` does not have."""
    before = flatten(load_recipe(other).model_dump())
    return {
        key: value for key, value in flatten(load_recipe(name).model_dump()).items() if value != before[key]
    }


def test_each_rung_changes_what_it_is_named_after() -> None:
    assert set(difference("mars/augmented", "mars/plain")) == {
        "augment.flip",
        "augment.rotate",
        "augment.brightness",
        "augment.contrast",
        "augment.strength",
    }
    assert difference("mars/aspp", "mars/augmented") == {"model.bottleneck": ("aspp",)}
    assert difference("mars/transformer", "mars/augmented") == {"model.bottleneck": ("transformer",)}
    assert difference("mars/gate", "mars/aspp") == {"model.attention": ("gate",)}
    assert difference("mars/subpixel", "mars/aspp") == {"model.upsample": "subpixel"}
    assert difference("mars/deep-supervision", "mars/gate") == {
        "model.deep_supervision": "levels",
        "loss.levels": (
            "ce",
            "0.45*dice(background=0) + 0.45*focal + 0.1*boundary_band",
            "0.1*dice(background=0) + 0.1*focal + 0.8*boundary_band",
        ),
        "loss.class_weights": (0, 0.2, 0.25, 0.28, 3.3),
        "augment.strength": "fixed",
        "train.monitor": "val_dice_image",
    }
    assert set(difference("mars/deep-supervision-all", "mars/deep-supervision")) == {
        "loss.levels",
        "loss.class_weights",
        "train.monitor",
    }


def test_all_rungs_see_the_same_pictures() -> None:
    """Equal minutes on pictures of another size would be another ladder."""
    assert {load_recipe(name).input.size for name in MARS} == {(64, 128)}
    assert {load_recipe(name).input.fit for name in MARS} == {"resize"}
    assert all("--data synthetic:terrain" in read_recipe_text(name) for name in MARS)
