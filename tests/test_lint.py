"""Each finding both ways: the mistake is told, its mended twin is silent; the shipped recipes are silent too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.config import ModelConfig, load_recipe, make_recipe, read_recipe_text, recipe_names
from maskwright.data.dataset import open_dataset
from maskwright.errors import ConfigError
from maskwright.lint import RULES, Advice, RunFacts, counted_classes, lint, run_facts, smallest_part
from maskwright.models import build_model, output_levels

PETS = RunFacts(classes=("background", "pet"), channels=3, pictures=960)
TERRAIN = RunFacts(
    classes=("background", "soil", "bedrock", "sand", "big rock"), channels=1, pictures=2505, empty=0.02
)
STREET = RunFacts(classes=("sky", "road", "car"), channels=3, pictures=367)
EMPTY = RunFacts(classes=("background", "polyp"), channels=3, pictures=960, empty=0.4)
GREY = RunFacts(classes=("background", "cell"), channels=1, pictures=960)
FOUR = RunFacts(classes=("background", "cell"), channels=4, pictures=960)
DEEP = RunFacts(classes=("background", "cell"), channels=3, pictures=960, targets=("depth", "heat"))
KIDNEYS = RunFacts(classes=("background", "left_kidney", "right_kidney"), channels=3, pictures=960)

LEVELS: dict[str, object] = {
    "model.deep_supervision": "levels",
    "model.depth": 2,
    "model.width": 4,
    "loss.levels": ["ce", "dice"],
}
VIT: dict[str, object] = {"model.name": "setr-pup", "model.encoder_weights": "imagenet"}

CASES: list[tuple[str, dict[str, object], RunFacts, dict[str, object], RunFacts]] = [
    # id, what makes it speak (changes, facts), what makes it silent (further changes, facts)
    (
        "untrained-class",
        {"loss.class_weights": (1, 0), "loss.terms": "ce"},
        PETS,
        {"loss.class_weights": (0, 1)},
        PETS,
    ),
    (
        "untrained-class",
        {"loss.class_weights": (0, 1, 1), "train.monitor": "val_miou"},
        STREET,
        {"train.monitor": "val_dice_image"},
        STREET,
    ),
    (
        "untrained-class",
        {"loss.class_weights": (1, 0), "loss.terms": "ce"},
        PETS,
        {"train.monitor": "val_loss"},
        PETS,
    ),
    ("half-taught", {"loss.class_weights": (1, 0)}, PETS, {"loss.class_weights": (1, 0.1)}, PETS),
    ("half-taught", {"loss.class_weights": (0, 1)}, PETS, {"model.outputs": "softmax"}, PETS),
    ("half-taught", {"loss.class_weights": (0, 1)}, PETS, {"loss.terms": "dice"}, PETS),
    ("half-taught", LEVELS | {"loss.class_weights": (0, 1)}, PETS, {"loss.levels": ["ce", "focal"]}, PETS),
    ("uncounted-class", {}, STREET, {"train.monitor": "val_miou"}, STREET),
    ("uncounted-class", {}, STREET, {}, TERRAIN),
    ("uncounted-class", {}, STREET, {"loss.class_weights": (0, 1, 1)}, STREET),
    ("uncounted-class", {"loss.class_weights": (3, 1)}, PETS, {"loss.class_weights": (1, 1)}, PETS),
    (
        "idle-weights",
        {"loss.terms": "dice", "loss.class_weights": (1, 2)},
        PETS,
        {"model.outputs": "softmax"},
        PETS,
    ),
    (
        "idle-weights",
        {"loss.terms": "dice", "loss.class_weights": "balanced", "model.outputs": "sigmoid"},
        RunFacts(),
        {"loss.terms": "bce + dice"},
        RunFacts(),
    ),
    ("empty-masks", {"loss.terms": "dice(per_image=1)"}, EMPTY, {"loss.terms": "ce + dice"}, EMPTY),
    ("empty-masks", {"loss.terms": "dice"}, EMPTY, {}, PETS),
    ("empty-masks", LEVELS | {"loss.levels": ["dice", "ce"]}, EMPTY, {"loss.levels": ["ce", "dice"]}, EMPTY),
    (
        "idle-weights",
        LEVELS | {"loss.class_weights": "balanced", "loss.levels": ["dice", "iou"]},
        PETS,
        {"loss.levels": ["dice", "ce"]},
        PETS,
    ),
    ("replaced-terms", LEVELS | {"loss.terms": "focal"}, PETS, {"loss.terms": "ce"}, PETS),
    ("replaced-terms", LEVELS | {"loss.terms": "focal"}, PETS, {"model.deep_supervision": "fused"}, PETS),
    ("replaced-terms", LEVELS | {"train.monitor": "val_loss"}, PETS, {"loss.terms": "1.0*ce"}, PETS),
    ("replaced-terms", LEVELS | {"optim.schedule": "plateau"}, PETS, {"optim.schedule": "cosine"}, PETS),
    ("unlike-losses", LEVELS | {"augment.strength": "adaptive"}, PETS, {"loss.levels": []}, PETS),
    (
        "unlike-losses",
        {"augment.strength": "adaptive", "model.deep_supervision": "fused"},
        PETS,
        {"model.deep_supervision": "levels"},
        PETS,
    ),
    ("two-watchers", {"optim.schedule": "plateau"}, PETS, {"train.monitor": "val_loss"}, PETS),
    ("two-watchers", {"optim.schedule": "plateau"}, PETS, {"optim.schedule": "constant"}, PETS),
    ("early-end", {"train.patience": 5}, PETS, {"optim.schedule": "constant"}, PETS),
    ("early-end", {"train.patience": 5, "optim.schedule": "onecycle"}, PETS, {"train.patience": 0}, PETS),
    # 960 / 16 = 60 steps an epoch
    ("long-memory", {"optim.ema": 0.999, "train.epochs": 16}, PETS, {"train.epochs": 17}, PETS),
    ("long-memory", {"optim.ema": 0.999, "train.epochs": 1}, PETS, {}, RunFacts(pictures=960, budgeted=True)),
    ("slow-beginner", {"optim.encoder_rate": 0.1}, PETS, {"model.encoder_weights": "imagenet"}, PETS),
    ("slow-beginner", {"optim.layer_decay": 0.7}, PETS, {}, RunFacts(started=True)),
    ("lone-picture", {"train.batch": 1}, PETS, {"model.norm": "group"}, PETS),
    ("lone-picture", {"train.batch": 2}, RunFacts(pictures=15), {"train.batch": 4}, RunFacts(pictures=15)),
    (
        "lone-picture",
        {"train.batch": 1, "model.norm": "group", "model.name": "resnet34-unet"},
        PETS,
        {"train.batch": "auto"},
        PETS,
    ),
    (
        "foreign-to-weights",
        {"model.encoder_weights": "imagenet", "input.normalise": "unit"},
        PETS,
        {"input.normalise": "imagenet"},
        PETS,
    ),
    ("foreign-to-weights", VIT, PETS, {"input.normalise": "symmetric"}, PETS),
    ("foreign-to-weights", VIT, PETS, {"model.name": "setr-pup:deit_small_patch16_224"}, PETS),
    ("foreign-to-weights", VIT, PETS, {"model.encoder_weights": "none"}, PETS),
    ("foreign-to-data", {}, GREY, {"input.normalise": "dataset"}, GREY),
    ("foreign-to-data", {}, FOUR, {"model.encoder_weights": "imagenet"}, FOUR),
    ("foreign-to-data", {}, GREY, {}, PETS),
    (
        "cancelled-colours",
        {"input.normalise": "image", "augment.brightness": 0.2},
        PETS,
        {"augment.brightness": 0, "augment.gamma": 0.2},
        PETS,
    ),
    (
        "counted-bars",
        {"input.normalise": "image", "input.fit": "letterbox"},
        PETS,
        {"input.fit": "resize"},
        PETS,
    ),
    (
        "binary-mixup",
        {"augment.mixup_mask": "binary", "augment.mixup": 1},
        PETS,
        {"augment.mixup_mask": "soft"},
        PETS,
    ),
    (
        "binary-mixup",
        {"augment.mixup_mask": "binary", "augment.mixup": 0.4},
        STREET,
        {"train.monitor": "val_miou"},
        PETS,
    ),
    ("binary-mixup", {"augment.mixup_mask": "binary"}, PETS, {"augment.mixup": 0.4}, PETS),
    ("idle-targets", {"loss.targets.depth": "l1"}, DEEP, {"loss.targets.heat": "l2"}, DEEP),
    ("idle-mixing", {"train.batch": 1, "augment.cutmix": 1}, PETS, {"train.batch": 2}, PETS),
    (
        "idle-augmentation",
        {"augment.copies": 1, "augment.copies_kind": "flips", "augment.rotate": 15},
        PETS,
        {"augment.rotate": 0},
        PETS,
    ),
    ("idle-augmentation", {"augment.copies_kind": "flips"}, PETS, {"augment.copies": 1}, PETS),
    ("swapped-sides", {}, KIDNEYS, {"augment.flip": False}, KIDNEYS),
    (
        "swapped-sides",
        {"augment.flip": False, "input.tta": "flips"},
        KIDNEYS,
        {"input.tta": "none"},
        KIDNEYS,
    ),
    ("lost-scale", {"input.fit": "crop", "augment.crop": 0.5}, PETS, {"augment.crop": 1}, PETS),
    ("idle-foreground", {"train.foreground": 0.5}, EMPTY, {"train.foreground": 0.7}, EMPTY),
    ("idle-foreground", {"train.foreground": 0.5}, replace(EMPTY, empty=1.0), {"train.foreground": 0}, EMPTY),
]


def ids(found: tuple[Advice, ...]) -> set[str]:
    return {advice.id for advice in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_mistake_is_told_and_its_mended_twin_is_silent(
    case: tuple[str, dict[str, object], RunFacts, dict[str, object], RunFacts],
) -> None:
    id, changes, facts, mended, other_facts = case
    assert id in ids(lint(make_recipe(changes), facts))
    assert id not in ids(lint(make_recipe(changes | mended), other_facts))


def test_every_rule_has_a_case_and_speaks_in_one_line() -> None:
    told = [advice for _, changes, facts, *_ in CASES for advice in lint(make_recipe(changes), facts)]
    assert (
        ids(tuple(told)) == {rule.__name__.replace("_", "-") for rule in RULES} == {case[0] for case in CASES}
    )
    for advice in told:
        assert str(advice).startswith(("Warning: ", "Note: "))
        assert "\n" not in str(advice)
        assert advice.problem.count("; ") == 0
        assert not advice.advice.endswith(".")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_silent_on_their_usual_data(name: str) -> None:
    header = read_recipe_text(name).partition("\n\n")[0]
    usual = TERRAIN if "terrain" in header else PETS
    assert [str(advice) for advice in lint(load_recipe(name), usual)] == []


def test_nothing_known_of_the_data_is_no_reason_to_speak() -> None:
    assert lint(make_recipe({})) == ()


def test_a_finding_says_what_was_found_and_what_to_do() -> None:
    recipe = make_recipe({"loss.class_weights": (1, 1, 0), "train.monitor": "val_miou"})
    (advice,) = lint(recipe, STREET)
    assert str(advice) == (
        "Warning: val_miou counts class 2 (car), which loss.class_weights leaves untaught; "
        "give it some weight, or choose a train.monitor that leaves it out"
    )


@pytest.mark.parametrize(
    ("epochs", "says"),
    [(4, "optim.ema=0 switches it off"), (16, "optim.ema=0.375 averages over the last tenth")],
)
def test_a_memory_that_is_too_long_for_a_tenth_of_few_steps(epochs: int, says: str) -> None:
    recipe = make_recipe({"optim.ema": 0.999, "train.epochs": epochs, "train.batch": 16})
    (advice,) = [advice for advice in lint(recipe, RunFacts(pictures=16)) if advice.id == "long-memory"]
    assert advice.advice == says


def test_a_loss_that_is_none_is_an_error_before_training() -> None:
    with pytest.raises(ConfigError, match="dcie"):
        lint(make_recipe({"loss.terms": "dcie"}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"loss.levels": ["ce", "dice"]},
            r"loss\.levels has 2 sums, but with model\.deep_supervision=none .*; set model\.deep_supervision=levels",
        ),
        (
            LEVELS | {"model.depth": 3},
            "loss.levels has 2 sums, but unet has outputs at 3 levels; write one sum per",
        ),
        (LEVELS | {"model.name": "dual-unet", "loss.levels": ["ce"]}, "dual-unet has outputs at 2 levels"),
        (
            LEVELS | {"model.name": "unetplusplus", "loss.levels": ["ce"]},
            "unetplusplus has outputs at 2 levels",
        ),
        (LEVELS | {"model.name": "resnet34-unet"}, "resnet34-unet has outputs at 5 levels"),
        (LEVELS | {"loss.levels": ["ce", "dcie"]}, r"loss\.levels='dcie' names 'dcie'"),
    ],
)
def test_levels_that_cannot_be_are_an_error_before_training(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        lint(make_recipe(changes))


def test_levels_are_as_many_as_training_gives() -> None:
    for name, width in (("unet", 4), ("unetplusplus", 4), ("dual-unet", 2)):
        config = ModelConfig(name=name, width=width, depth=3, deep_supervision="fused")
        outputs = build_model(config, 1, 2)(torch.zeros(2, 1, 16, 16))
        assert len(outputs) == 1 + output_levels(config)  # the fused one


def test_what_each_monitor_counts() -> None:
    assert counted_classes("val_dice_image", 3) == (1, 2)
    assert counted_classes("val_miou", 3) == (0, 1, 2)
    assert counted_classes("val_loss", 3) == ()


def test_the_second_pictures_mean_share() -> None:
    """Brute force over many draws of the Beta distribution."""
    weights = np.random.default_rng(0).beta(1.5, 1.5, 200_000)
    share = np.minimum(weights, 1 - weights).mean()
    (advice,) = lint(make_recipe({"augment.mixup_mask": "binary", "augment.mixup": 1.5}))
    assert f"shows {share:.0%} of another one" in advice.problem


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_smallest_part_is_that_of_numpy(batch: int, accumulate: int) -> None:
    """As training/loop.py cuts an epoch into steps, and training/step.py a step into what goes through at once."""
    for pictures in range(1, 60):
        steps = np.array_split(np.arange(pictures), -(-pictures // (batch * accumulate)))
        parts = [part for step in steps for part in np.array_split(step, -(-len(step) // batch))]
        assert smallest_part(pictures, batch, accumulate) == min(map(len, parts))


def test_facts_are_counted_in_the_training_split(tmp_path: Path) -> None:
    for number in range(8):
        split = "test" if number > 5 else "val" if number > 3 else "train"
        mask = np.zeros((8, 9), np.uint8)
        mask[:2] = number != 1  # one of the four training masks is empty
        for kind, array in (("images", mask * 200), ("masks", mask)):
            (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / split / kind / f"{number}.png")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]\nvalues: {0: ground, 1: thing}\n")
    dataset = open_dataset(tmp_path)
    assert run_facts(dataset, make_recipe({}), started=True) == RunFacts(
        classes=("ground", "thing"), channels=1, pictures=4, empty=0.25, started=True
    )
    assert run_facts(dataset, make_recipe({"input.channels": 3})).channels == 3
    assert run_facts(None, make_recipe({}), budgeted=True) == RunFacts(budgeted=True)
