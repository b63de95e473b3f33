from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from maskwright.config import (
    ALIASES,
    RENAMED,
    Recipe,
    flatten,
    load_recipe,
    make_recipe,
    parse_overrides,
    recipe_keys,
    recipe_names,
    suggest,
)
from maskwright.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_every_named_recipe_is_complete_and_survives_its_own_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    resolved = tmp_path / "recipe.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load_recipe(str(resolved)) == recipe
    assert set(flatten(yaml.safe_load(recipe.to_yaml()))) == set(recipe_keys())


def test_words_become_values_of_the_right_kind() -> None:
    overrides = parse_overrides(
        [
            "model.width=16",
            "input.size=180,240",
            "optim.learning_rate=1e-4",
            "loss.class_weights=[0, 1, 2.5]",
            "augment.flip=false",
            "loss.terms=0.5*ce + dice(per_image=1)",
            "train.batch=auto",
        ]
    )
    recipe = load_recipe(None, overrides)
    assert recipe.model.width == 16
    assert recipe.input.size == (180, 240)
    assert recipe.optim.learning_rate == 1e-4
    assert recipe.loss.class_weights == (0, 1, 2.5)
    assert recipe.augment.flip is False
    assert recipe.loss.terms == "0.5*ce + dice(per_image=1)"
    assert recipe.train.batch == "auto"


@pytest.mark.parametrize("size", [96, "96", "96,96", "96x96", [96, 96], (96, 96)])
def test_a_size_can_be_written_in_every_usual_way(size: object) -> None:
    assert make_recipe({"input.size": size}).input.size == (96, 96)


@pytest.mark.parametrize(
    ("unknown", "ours"),
    [
        ("lr", "optim.learning_rate"),
        ("learning_rate", "optim.learning_rate"),
        ("imgsz", "input.size"),
        ("batch_size", "train.batch"),
        ("num_epochs", "train.epochs"),
        ("optim.lr", "optim.learning_rate"),
        ("train.batch_size", "train.batch"),
        ("optim.learning_rat", "optim.learning_rate"),
        ("model.widht", "model.width"),
        ("width", "model.width"),
        ("augment.rotation", "augment.rotate"),
    ],
)
def test_unknown_keys_are_answered_with_the_one_that_was_meant(unknown: str, ours: str) -> None:
    with pytest.raises(ConfigError, match=rf"has no key '{unknown}'; did you mean {ours}\?"):
        make_recipe({unknown: 1})


def test_nested_sections_are_checked_like_dotted_keys() -> None:
    with pytest.raises(ConfigError, match=r"no key 'train\.epoch'; did you mean train\.epochs"):
        make_recipe({"train": {"epoch": 3}})


def test_a_word_that_resembles_nothing_gets_the_list() -> None:
    assert suggest("zzzzqqq", ["one", "two"]) == "known are: one, two"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", 0),
        ("optim.learning_rate", -1),
        ("model.dropout", 1.0),
        ("model.norm", "instance"),
        ("input.size", "12,x"),
        ("augment.crop", 0),
        ("seed", -1),
        ("augment.flip", "perhaps"),
    ],
)
def test_impossible_values_name_key_value_and_default(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        make_recipe({key: value}, source="mine.yaml")
    line = str(caught.value)
    assert key in line
    assert str(value) in line
    assert "mine.yaml" in line
    assert "\n" not in line


def test_every_alias_leads_to_a_key() -> None:
    assert set(ALIASES.values()) <= set(recipe_keys())


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {epochs: 7, batch: 3}\nseed: 5\n")
    recipe = load_recipe(str(file), {"train.epochs": 9})
    assert (recipe.train.epochs, recipe.train.batch, recipe.seed) == (9, 3, 5)
    assert recipe.optim == Recipe().optim


@pytest.mark.parametrize("text", ["- a list\n", "just words\n", "a: [1\n"])
def test_a_file_that_is_no_recipe_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml is not"):
        load_recipe(str(file))


def test_unknown_recipes_and_missing_files_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'resnet34'; did you mean resnet34-unet"):
        load_recipe("resnet34")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_recipe("nowhere/mine.yaml")


def test_a_word_without_a_value_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match=r"'lr' is not of the form section\.key=value"):
        parse_overrides(["lr"])


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_names_of_recipes_still_work(old: str, new: str) -> None:
    assert old not in recipe_names()
    assert load_recipe(old) == load_recipe(new)


@pytest.mark.parametrize(
    "name", ["../recipes/unet", "mars/../unet", "mars", "mars/", "/unet", "mars\\plain", ""]
)
def test_a_name_is_no_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no recipe"):
        load_recipe(name)


def test_recipes_in_folders_stand_behind_the_others() -> None:
    folders = [name.rpartition("/")[0] for name in recipe_names()]
    assert folders == sorted(folders)
    assert set(folders) == {"", "mars", "pets"}
    with pytest.raises(ConfigError, match="no recipe 'plain'; did you mean mars/plain"):
        load_recipe("plain")


def test_losses_of_targets_are_a_mapping_and_words(tmp_path: Path) -> None:
    recipe = make_recipe(parse_overrides(["loss.targets.depth=0.5*l1", "loss.edge=0.4"]))
    assert recipe == make_recipe({"loss": {"targets": {"depth": "0.5*l1"}, "edge": 0.4}})
    assert recipe.loss.heads == ("edge", "depth")
    (tmp_path / "mine.yaml").write_text(recipe.to_yaml())
    assert load_recipe(str(tmp_path / "mine.yaml")) == recipe
    more = load_recipe(str(tmp_path / "mine.yaml"), {"loss.targets.heat": "l2", "loss.edge": 0})
    assert dict(more.loss.targets) == {"depth": "0.5*l1", "heat": "l2"}
    assert more.loss.heads == ("depth", "heat")
    assert load_recipe(str(tmp_path / "mine.yaml"), parse_overrides(["loss.targets={}"])).loss.heads == (
        "edge",
    )
    assert make_recipe({"loss": {}, "loss.targets": {}}) == Recipe()
    with pytest.raises(ConfigError, match=r"loss\.targets=0\.5 in .* valid string"):
        make_recipe({"loss.targets.depth": 0.5})


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().train.epochs = 3
