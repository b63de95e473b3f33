"""Advice on a recipe before it costs an hour: settings that work against each other, or against the data.

A rule is a pure function of the recipe and of what is known of the data; it finds one thing or nothing. What a recipe
cannot mean at all is no advice but a ConfigError, raised where it is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betainc

from maskwright.config import AugmentConfig, LossConfig, Recipe
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError
from maskwright.losses import Term, parse_terms
from maskwright.metrics.contract import DEFAULT
from maskwright.models import output_levels
from maskwright.models.zoo import trained_normalise


@dataclass(frozen=True)
class Advice:
    """One finding."""

    id: str
    severity: Literal["warning", "note"]
    """warning: it will cost score or time; note: a setting has no effect, or there is a better one."""
    problem: str
    advice: str
    """What to do instead, in one sentence."""

    def __str__(self) -> str:
        return f"{self.severity.capitalize()}: {self.problem}; {self.advice}"


@dataclass(frozen=True)
class RunFacts:
    """What a recipe meets. The defaults mean "not known"; rules that need to know are silent then."""

    classes: tuple[str, ...] = ()
    channels: int = 0
    """Of the pictures as the network sees them."""
    pictures: int = 0
    """Training pictures, copies not counted."""
    empty: float = 0.0
    """Share of the training masks that hold nothing but class 0."""
    budgeted: bool = False
    """Whether a time budget decides about the epochs."""
    started: bool = False
    """Whether training starts from the weights of another run."""
    targets: tuple[str, ...] = ()
    """Dense targets of the data set."""


def run_facts(
    dataset: Dataset | None, recipe: Recipe, *, budgeted: bool = False, started: bool = False
) -> RunFacts:
    """What there is to know before training; `dataset` None: of the data nothing. Raises DataError."""
    channels = recipe.input.channels
    if dataset is None:
        return RunFacts(channels=0 if channels == "auto" else channels, budgeted=budgeted, started=started)
    items = dataset.split("train")
    counts = [dataset.pixels[item.id] for item in items if item.id in dataset.pixels]
    return RunFacts(
        classes=dataset.classes.names,
        channels=dataset.channels() if channels == "auto" else channels,
        pictures=len(items),
        empty=float(np.mean([not pixels_K[1:].any() for pixels_K in counts])) if counts else 0.0,
        budgeted=budgeted,
        started=started,
        targets=dataset.targets,
    )


def lint(recipe: Recipe, facts: RunFacts = RunFacts()) -> tuple[Advice, ...]:
    """All findings, in the order of RULES. Raises ConfigError for sums of what is no loss, and as `check_levels`."""
    check_levels(recipe)
    return tuple(advice for rule in RULES if (advice := rule(recipe, facts)) is not None)


def check_levels(recipe: Recipe) -> None:
    """Raises ConfigError where `loss.levels` is not one sum for each output that the network has in training.

    Training would find it in its first step, when the run has its name and the data are decoded.
    """
    if not recipe.loss.levels:
        return
    written, levels = len(recipe.loss.levels), output_levels(recipe.model)
    if recipe.model.deep_supervision == "none":
        raise ConfigError(
            f"loss.levels has {written} sums, but with model.deep_supervision=none the network has one output",
            "set model.deep_supervision=levels, or leave loss.levels away",
        )
    if written != levels:
        raise ConfigError(
            f"loss.levels has {written} sums, but {recipe.model.name} has outputs at {levels} levels",
            "write one sum per level, full size first",
        )


def judged_sums(recipe: Recipe) -> dict[str, tuple[Term, ...]]:
    """What training judges the outputs by, by the key where it stands; the output that predicts comes first."""
    levels = {
        f"loss.levels[{level}]": parse_terms(text, "loss.levels")
        for level, text in enumerate(recipe.loss.levels)
    }
    terms = {"loss.terms": parse_terms(recipe.loss.terms)}
    return levels if levels and recipe.model.deep_supervision == "levels" else terms | levels


def counted_classes(monitor: str, classes: int) -> tuple[int, ...]:
    """Those in the mean that `train.monitor` is, by the contract that validation always has; none for a loss."""
    match monitor:
        case "val_dice_image":
            return DEFAULT.resolved(classes).foreground or ()
        case "val_miou":
            return tuple(range(classes))
        case _:
            return ()


LIKE_BACKGROUND = re.compile(r"background|ground|void|other|none|unlabel|\brest\b|class_0|^0$", re.IGNORECASE)
"""Names that say that a class is what the others leave over."""
REGION_LOSSES = {"dice", "iou", "tversky", "focal_tversky", "lovasz", "cldice", "boundary", "boundary_band"}
"""They compare shapes: a mask without foreground only says how much was predicted, and one channel has no class 0."""
MANY_EMPTY = 0.25
MUCH_DENIED = 0.2
ANNEALED = {"cosine", "poly", "onecycle"}
"""Schedules that reach their lowest rate at the planned end."""
COLOURED = ("brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise")
MOVED = ("rotate", "scale", "shift", "shear", "elastic")
MIXED = ("mixup", "cutmix")


def untrained_class(recipe: Recipe, facts: RunFacts) -> Advice | None:
    weights, monitor = recipe.loss.class_weights, recipe.train.monitor
    if isinstance(weights, str) or len(weights) < 2 or not any(weights):
        return None
    idle = [k for k in counted_classes(monitor, len(weights)) if weights[k] == 0]
    if not idle or (_one_channel(recipe, len(weights)) and _of_areas(recipe)):
        return None
    return Advice(
        "untrained-class",
        "warning",
        f"{monitor} counts {_named(idle, facts)}, which loss.class_weights leaves untaught",
        "give it some weight, or choose a train.monitor that leaves it out",
    )


def half_taught(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """No weight changes what a loss of areas makes of one channel."""
    weights = recipe.loss.class_weights
    if isinstance(weights, str) or not any(weights) or not _one_channel(recipe, len(weights)):
        return None
    idle = [k for k, weight in enumerate(weights) if weight == 0]
    names = [term.name for sums in judged_sums(recipe).values() for term in sums]
    areas, pixels = _of_areas(recipe), [name for name in names if name not in REGION_LOSSES]
    if not idle or not areas or not pixels:
        return None
    (key, name), *_ = areas.items()
    return Advice(
        "half-taught",
        "warning",
        f"loss.class_weights leaves {_named(idle, facts)} out of {pixels[0]}, and {name} in {key} trains on it: of one "
        "sigmoid channel no weight changes that",
        "give it some weight, or use model.outputs=softmax, where the weights hold for every loss",
    )


def uncounted_class(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """val_dice_image leaves class 0 out: right for a background, wrong for a class like the others."""
    weights = recipe.loss.class_weights
    given = () if isinstance(weights, str) else weights
    favoured = len(given) > 1 and given[0] > max(given[1:])
    alike = len(facts.classes) > 2 and not LIKE_BACKGROUND.search(facts.classes[0])
    untaught = len(given) > 0 and given[0] == 0
    if recipe.train.monitor != "val_dice_image" or untaught or not (favoured or alike):
        return None
    return Advice(
        "uncounted-class",
        "warning" if favoured else "note",
        f"train.monitor=val_dice_image leaves out {_named([0], facts)}, "
        + ("to which loss.class_weights gives the most weight" if favoured else "on which the loss trains"),
        "train.monitor=val_miou counts every class",
    )


def binary_mixup(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """E[min(w, 1 - w)] of w ~ Beta(a, a) is I_1/2(a + 1, a): the second picture's mean share."""
    augment = recipe.augment
    if augment.mixup_mask != "binary":
        return None
    if not augment.mixup:
        return Advice(
            "binary-mixup",
            "note",
            "augment.mixup_mask=binary has no effect while augment.mixup is 0",
            "leave it out, or set augment.mixup=0.4",
        )
    denied = float(betainc(augment.mixup + 1, augment.mixup, 0.5))
    if denied <= MUCH_DENIED and len(facts.classes) <= 2:
        return None
    return Advice(
        "binary-mixup",
        "warning",
        f"with augment.mixup={augment.mixup:g} a blended picture shows {denied:.0%} of another one on average, "
        "which its mask denies (augment.mixup_mask=binary)",
        "augment.mixup_mask=soft keeps both truths with their shares",
    )


def idle_mixing(recipe: Recipe, facts: RunFacts) -> Advice | None:
    mixes = _switched_on(recipe.augment, MIXED)
    if recipe.train.batch != 1 or not mixes:
        return None
    return Advice(
        "idle-mixing",
        "warning",
        f"{_listed(mixes)} cannot mix: with train.batch=1 a picture has no partner",
        "use train.batch=2 or more",
    )


def idle_augmentation(recipe: Recipe, facts: RunFacts) -> Advice | None:
    augment = recipe.augment
    if augment.copies_kind != "flips":
        return None
    if not augment.copies:
        return Advice(
            "idle-augmentation",
            "note",
            "augment.copies_kind=flips has no effect while augment.copies is 0",
            "set augment.copies=1, or leave it out",
        )
    idle = _switched_on(augment, (*MOVED, *COLOURED, *MIXED))
    if augment.crop < 1:
        idle.append("augment.crop")
    if not idle:
        return None
    return Advice(
        "idle-augmentation",
        "note",
        f"with augment.copies_kind=flips nothing but flips is done: {_listed(idle)} has no effect",
        "augment.copies_kind=random uses it",
    )


def two_watchers(recipe: Recipe, facts: RunFacts) -> Advice | None:
    if recipe.optim.schedule != "plateau" or recipe.train.monitor == "val_loss":
        return None
    return Advice(
        "two-watchers",
        "warning",
        f"optim.schedule=plateau lowers the rate by val_loss, while {recipe.train.monitor} chooses the best epoch",
        "train.monitor=val_loss makes both watch the same, and optim.schedule=cosine watches nothing",
    )


def early_end(recipe: Recipe, facts: RunFacts) -> Advice | None:
    if not recipe.train.patience or recipe.optim.schedule not in ANNEALED:
        return None
    return Advice(
        "early-end",
        "warning",
        f"train.patience={recipe.train.patience} may end the run before optim.schedule={recipe.optim.schedule} has "
        "lowered the rate",
        "use train.patience=0 with fewer epochs or a --budget, or optim.schedule=plateau",
    )


def empty_masks(recipe: Recipe, facts: RunFacts) -> Advice | None:
    key, sums = next(iter(judged_sums(recipe).items()))
    if facts.empty < MANY_EMPTY or not {term.name for term in sums} <= REGION_LOSSES:
        return None
    return Advice(
        "empty-masks",
        "warning",
        f"{key} compares areas alone, and {facts.empty:.0%} of the training masks have no foreground",
        "add a term that judges every pixel, such as 'ce + dice'",
    )


def foreign_to_weights(recipe: Recipe, facts: RunFacts) -> Advice | None:
    if recipe.model.encoder_weights != "imagenet":
        return None
    trained = trained_normalise(recipe.model.name)
    if trained in (None, recipe.input.normalise):
        return None
    return Advice(
        "foreign-to-weights",
        "warning",
        f"input.normalise={recipe.input.normalise} is not what the imagenet weights for {recipe.model.name} were "
        "trained with",
        f"use input.normalise={trained}",
    )


def foreign_to_data(recipe: Recipe, facts: RunFacts) -> Advice | None:
    colours = facts.channels in (0, 3)
    pretrained = recipe.model.encoder_weights != "none" or facts.started
    if recipe.input.normalise != "imagenet" or pretrained or colours:
        return None
    kind = "grey" if facts.channels == 1 else f"{facts.channels}-channel"
    return Advice(
        "foreign-to-data",
        "note",
        f"input.normalise=imagenet subtracts the mean of colour photographs from {kind} pictures, and no weights ask "
        "for it",
        "input.normalise=dataset uses the figures of these pictures",
    )


def cancelled_colours(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """`image` undoes every affine change that is the same for all channels and pixels of a picture."""
    cancelled = _switched_on(recipe.augment, ("brightness", "contrast"))
    if recipe.input.normalise != "image" or not cancelled:
        return None
    return Advice(
        "cancelled-colours",
        "note",
        f"input.normalise=image takes out again what {_listed(cancelled)} puts in, but for clipped pixels",
        "vary augment.gamma, or use input.normalise=dataset",
    )


def counted_bars(recipe: Recipe, facts: RunFacts) -> Advice | None:
    if (recipe.input.normalise, recipe.input.fit) != ("image", "letterbox"):
        return None
    return Advice(
        "counted-bars",
        "note",
        "input.normalise=image takes mean and deviation over the bars of input.fit=letterbox as well, so that they "
        "depend on the picture's shape",
        "use input.normalise=dataset, or input.fit=resize",
    )


def lone_picture(recipe: Recipe, facts: RunFacts) -> Advice | None:
    batch = recipe.train.batch
    normed = recipe.model.norm == "batch" or "resnet" in recipe.model.name
    if batch == "auto" or not normed:
        return None
    pictures = facts.pictures * (recipe.augment.copies + 1)
    if batch > 1 and (not pictures or smallest_part(pictures, batch, recipe.train.accumulate) > 1):
        return None
    where = f" and {pictures} pictures" if batch > 1 else ""
    return Advice(
        "lone-picture",
        "warning",
        f"with train.batch={batch}{where} batch norm sees a single picture in some steps, and normalises it by itself",
        "use another train.batch, or model.norm=group where the model has no batch norm of its own",
    )


def long_memory(recipe: Recipe, facts: RunFacts) -> Advice | None:
    train, decay = recipe.train, recipe.optim.ema
    if not decay or not facts.pictures or facts.budgeted or train.batch == "auto":
        return None
    pictures = facts.pictures * (recipe.augment.copies + 1)
    steps = train.epochs * math.ceil(pictures / (train.batch * train.accumulate))
    if 1 / (1 - decay) <= steps:
        return None
    return Advice(
        "long-memory",
        "note",
        f"optim.ema={decay:g} averages over {1 / (1 - decay):.0f} steps, and the run has {steps}",
        f"optim.ema={1 - 10 / steps:.3g} averages over the last tenth"
        if steps > 10
        else "optim.ema=0 switches it off",
    )


def swapped_sides(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """A mirrored left kidney is a right one."""
    flips = recipe.augment.copies > 0 and recipe.augment.copies_kind == "flips"
    sides = [re.findall(r"(?<![a-z])(left|right)(?![a-z])", name.lower()) for name in facts.classes]
    mirrored = recipe.augment.flip or flips or recipe.input.tta != "none"
    if not mirrored or {side for found in sides for side in found} != {"left", "right"}:
        return None
    named = [k for k, found in enumerate(sides) if found]
    return Advice(
        "swapped-sides",
        "warning",
        f"mirrored pictures keep the names of {_named(named, facts)}, which should change sides",
        "use augment.flip=false, augment.copies_kind=random and input.tta=none, and predict without --tta",
    )


def lost_scale(recipe: Recipe, facts: RunFacts) -> Advice | None:
    if recipe.input.fit != "crop" or recipe.augment.crop == 1:
        return None
    return Advice(
        "lost-scale",
        "note",
        f"augment.crop={recipe.augment.crop:g} enlarges the windows, which input.fit=crop cuts to show the scale that "
        "prediction will see",
        "leave augment.crop at 1; augment.scale varies the scale both ways",
    )


def idle_weights(recipe: Recipe, facts: RunFacts) -> Advice | None:
    sums = judged_sums(recipe)
    shapes = {term.name for terms in sums.values() for term in terms} <= REGION_LOSSES
    if recipe.loss.class_weights == "none" or not _one_channel(recipe, len(facts.classes)) or not shapes:
        return None
    return Advice(
        "idle-weights",
        "note",
        f"loss.class_weights has no effect: of one sigmoid channel, {_listed(list(sums))} judges the foreground alone",
        f"add ce to {next(iter(sums))}, or use model.outputs=softmax",
    )


def replaced_terms(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """With levels and no fused output, nothing that training sees is judged by `loss.terms`; validation is."""
    loss, sums = recipe.loss, judged_sums(recipe)
    key, first = next(iter(sums.items()))
    if "loss.terms" in sums or first == parse_terms(loss.terms):
        return None
    watched = recipe.train.monitor == "val_loss" or recipe.optim.schedule == "plateau"
    if not watched and loss.terms == LossConfig().terms:
        return None
    return Advice(
        "replaced-terms",
        "warning" if watched else "note",
        f"loss.terms={loss.terms!r} decides about val_loss alone, since loss.levels has taken its place in training",
        f"make it {loss.levels[0]!r}, which is {key}" + ("" if watched else ", or leave it out"),
    )


def unlike_losses(recipe: Recipe, facts: RunFacts) -> Advice | None:
    """The weights of levels sum to 1 where `make_loss` chooses them, and only there."""
    several = recipe.loss.levels or recipe.model.deep_supervision == "fused"
    if recipe.augment.strength != "adaptive" or not several:
        return None
    return Advice(
        "unlike-losses",
        "warning",
        "augment.strength=adaptive compares the training loss, which several outputs add up to, with val_loss of one "
        "output",
        "use augment.strength=fixed, or model.deep_supervision=levels without loss.levels",
    )


def slow_beginner(recipe: Recipe, facts: RunFacts) -> Advice | None:
    slowed = [key for key in ("encoder_rate", "layer_decay") if getattr(recipe.optim, key) < 1]
    if not slowed or recipe.model.encoder_weights != "none" or facts.started:
        return None
    return Advice(
        "slow-beginner",
        "warning",
        f"optim.{slowed[0]}={getattr(recipe.optim, slowed[0]):g} slows down an encoder whose weights are random",
        "start from model.encoder_weights=imagenet or --init, or leave it at 1",
    )


def idle_targets(recipe: Recipe, facts: RunFacts) -> Advice | None:
    idle = [name for name in facts.targets if name not in recipe.loss.targets]
    if not idle:
        return None
    return Advice(
        "idle-targets",
        "note",
        f"nothing learns {_listed(idle)}, which dataset.yaml names under targets",
        f"set loss.targets.{idle[0]}=0.5*huber, or take it out of dataset.yaml to spare room in the cache",
    )


def idle_foreground(recipe: Recipe, facts: RunFacts) -> Advice | None:
    wanted, there = recipe.train.foreground, 1 - facts.empty
    if not wanted or not facts.pictures or 0 < there < wanted:
        return None
    return Advice(
        "idle-foreground",
        "note",
        f"train.foreground={wanted:g} has no effect: {there:.0%} of the training masks hold foreground",
        "ask for a greater share, or leave it at 0" if there else "look whether class 0 is the background",
    )


RULES: tuple[Callable[[Recipe, RunFacts], Advice | None], ...] = (
    untrained_class,
    uncounted_class,
    half_taught,
    idle_weights,
    replaced_terms,
    unlike_losses,
    empty_masks,
    two_watchers,
    early_end,
    long_memory,
    slow_beginner,
    lone_picture,
    foreign_to_weights,
    foreign_to_data,
    cancelled_colours,
    counted_bars,
    binary_mixup,
    idle_mixing,
    idle_augmentation,
    swapped_sides,
    lost_scale,
    idle_targets,
    idle_foreground,
)


def smallest_part(pictures: int, batch: int, accumulate: int) -> int:
    """Pictures in the smallest part that goes through the network at once, as the loop cuts an epoch."""
    steps = math.ceil(pictures / (batch * accumulate))
    whole = {pictures // steps, math.ceil(pictures / steps)}  # of one optimiser step
    return min(size // math.ceil(size / batch) for size in whole)


def _one_channel(recipe: Recipe, classes: int) -> bool:
    """Whether the network says one number per pixel, as far as that is known; see `models.output_channels`."""
    return recipe.model.outputs == "sigmoid" or (recipe.model.outputs == "auto" and classes == 2)


def _of_areas(recipe: Recipe) -> dict[str, str]:
    """The first loss of areas in each sum that training judges by, by the sum's key."""
    return {
        key: term.name
        for key, sums in judged_sums(recipe).items()
        for term in reversed(sums)
        if term.name in REGION_LOSSES
    }


def _switched_on(augment: AugmentConfig, names: tuple[str, ...]) -> list[str]:
    return [f"augment.{name}" for name in names if getattr(augment, name)]


def _named(ids: list[int], facts: RunFacts) -> str:
    """`class 1 (rock)`, or `class 1` where the names are not known."""
    return _listed([f"class {k}" + (f" ({facts.classes[k]})" if k < len(facts.classes) else "") for k in ids])


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
