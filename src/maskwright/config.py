"""The recipe: everything that decides a training run except the data.

Frozen, complete, and it refuses typos: an unknown key names the closest known one. Sizes are height, width.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from maskwright.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


def _size(value: object) -> object:
    """Accept `256`, `"256"`, `"128,96"` and `[128, 96]` for a size."""
    if isinstance(value, str):
        sides = [int(part) for part in value.replace("x", ",").split(",")]
        return sides * 2 if len(sides) == 1 else sides
    return (value, value) if isinstance(value, int | float) else value


Size = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_size)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _names(value: object) -> object:
    """Accept `gate`, `"gate,channel"` and `[gate, channel]` for a list of names."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


PRESETS: dict[str, dict[str, object]] = {
    "attention-unet": {"attention": ("gate",)},
    "cbam-unet": {"attention": ("channel", "spatial")},
    "aspp-unet": {"bottleneck": ("aspp",)},
    "transformer-unet": {"bottleneck": ("transformer",)},
    "subpixel-unet": {"upsample": "subpixel"},
    "aspp-gate-unet": {"attention": ("gate",), "bottleneck": ("aspp",), "deep_supervision": "levels"},
}
"""Names of the UNet with parts: `model.name` -> what it adds to `unet`. The last is document 003's best."""


class ModelConfig(Part):
    """The network. A name of PRESETS fills in its parts wherever the key has its default.

    So `model.name=attention-unet` has `attention` (gate), and a written config says so too: read again, it is
    the same network. A key with another value than its default stays as it is; `unet` has no parts of itself.
    """

    name: str = "unet"
    """A name of `maskwright models`, or ARCHITECTURE:ENCODER with any encoder of timm: `fpn:convnext_tiny`."""
    width: PositiveInt = 32
    """Channels of the first level (unet: 64 in the paper; unetplusplus and dual-unet: 32 in theirs), or of all
    levels (resnet34-unet, narrow)."""
    depth: Annotated[int, Field(ge=1, le=7)] = 4
    """Number of halvings (unet, unetplusplus)."""
    norm: Literal["none", "batch", "group", "layer"] = "batch"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping a whole channel in the bottleneck."""
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving out the encoder's last residual block in a training step, picture by picture; it rises
    linearly from 0 at the first block (resnet34-unet and the zoo; Huang et al. 2016). 0: as the encoder's authors have
    it, which is hardly ever on."""
    upsample: Literal["transpose", "bilinear", "subpixel"] = "transpose"
    """unet, resnet34-unet and unetplusplus; dual-unet is bilinear."""
    attention: Annotated[
        tuple[Literal["gate", "channel", "spatial"], ...], Field(max_length=3), BeforeValidator(_names)
    ] = ()
    """On the skips, in this order (unet, resnet34-unet): attention gate (Oktay et al. 2018), CBAM's channel
    and spatial attention (Woo et al. 2018)."""
    bottleneck: Annotated[
        tuple[Literal["aspp", "transformer"], ...], Field(max_length=2), BeforeValidator(_names)
    ] = ()
    """Behind the deepest convolutions, in this order (unet, resnet34-unet): atrous spatial pyramid pooling
    (Chen et al. 2017), a Transformer of two layers."""
    deep_supervision: Literal["none", "levels", "fused"] = "none"
    """levels: training judges the logits of every decoder level (unet, resnet34-unet), of every full-size node
    (unetplusplus), of both networks (dual-unet). fused: and their learnt mixture, which then predicts."""
    decoder: Literal["wide", "narrow", "unet"] = "narrow"
    """resnet34-unet: `wide` of document 001, `narrow` with bridge of 002, `unet` of 004."""
    outputs: Literal["auto", "sigmoid", "softmax"] = "auto"
    """auto: one sigmoid channel for two classes, K softmax channels for more."""
    encoder_weights: str = "none"
    """none, imagenet, or a safetensors file (resnet34-unet and the zoo)."""

    @model_validator(mode="before")
    @classmethod
    def _with_the_parts_of_its_name(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        parts = PRESETS.get(str(values.get("name")), {})
        untouched = (key for key in parts if values.get(key) in (None, [], cls.model_fields[key].default))
        return {**values, **{key: parts[key] for key in untouched}}


class LossConfig(Part):
    """What is minimised."""

    terms: str = "ce + dice"
    """A weighted sum such as `0.5*ce + dice(per_image=1)`; names and parameters of `maskwright.losses.LOSSES`;
    `ramp=1` in any of them: its weight rises with the run."""
    levels: tuple[str, ...] = ()
    """A sum for each output of `model.deep_supervision`, full size first; empty: `terms` for each, with
    weights 1, 1/2, 1/4, ... scaled to sum 1."""
    class_weights: Literal["none", "balanced", "effective"] | tuple[NonNegativeFloat, ...] = "none"
    """One per class, 0 allowed; balanced: inverse to the square root of the class's share of the pixels; effective:
    inverse to the effective number of samples (Cui et al. 2019), which treats rare classes more strongly."""
    edge: NonNegativeFloat = 0.0
    """Weight of `maskwright.losses.edge`: above 0 the network has an auxiliary head that learns where classes meet."""
    edge_radius: PositiveInt = 1
    """Pixels on either side of a boundary that are edge."""
    targets: Mapping[str, str] = {}
    """Dense target of the data set -> a sum such as `0.5*huber(delta=1)` of `maskwright.losses.DENSE_LOSSES`, on values
    that the training pictures' mean and deviation standardise; each has an auxiliary head. As a word:
    `loss.targets.depth=l1`."""

    @property
    def heads(self) -> tuple[str, ...]:
        """What auxiliary heads say, one channel each."""
        return (*(("edge",) if self.edge else ()), *self.targets)


class OptimConfig(Part):
    """How it is minimised."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    """Peak rate, reached after the warm-up."""
    weight_decay: NonNegativeFloat = 1e-2
    momentum: Share = 0.9
    """sgd only."""
    schedule: Literal["constant", "plateau", "cosine", "poly", "onecycle"] = "cosine"
    warmup: Share = 0.05
    """Share of the run in which the rate rises linearly."""
    plateau_patience: NonNegativeInt = 2
    """Epochs without a lower validation loss before the rate falls (plateau)."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the averaged weights that are validated and kept; 0 = off."""
    clip: NonNegativeFloat = 1.0
    """Largest norm of the gradient; 0 = off."""
    encoder_rate: Share = 1.0
    """Factor on the rate of the encoder's parameters: 0.1 is gentle with pretrained ones, 0 leaves them as they are."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A further factor for each encoder stage below the last one: 0.65 trains the four stages of a ResNet34 at 0.27,
    0.42, 0.65 and 1 of the encoder's rate."""


class AugmentConfig(Part):
    """What is done to training pictures and masks before the network sees them. 0 is off everywhere."""

    flip: bool = True
    """Left and right swapped in half of the pictures."""
    flip_vertical: bool = False
    rotate: NonNegativeFloat = 0.0
    """Largest angle in degrees."""
    scale: NonNegativeFloat = 0.0
    """0.2: factors from 1/1.2 to 1.2, log-uniform."""
    shift: Share = 0.0
    """Largest shift as a share of the side."""
    shear: Annotated[float, Field(ge=0, lt=80)] = 0.0
    """Largest angle in degrees."""
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of the area of a random resized crop; 1 = off."""
    elastic: Share = 0.0
    """Largest displacement as a share of the shorter side."""
    probability: Share = 1.0
    """Of the geometry (all but the flips) as a whole."""
    brightness: Share = 0.0
    """0.2: factor from 0.8 to 1.2."""
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn as a share of the colour circle."""
    gamma: NonNegativeFloat = 0.0
    """0.2: exponents from 1/1.2 to 1.2."""
    blur: NonNegativeFloat = 0.0
    """Largest standard deviation in pixels."""
    noise: Share = 0.0
    """Largest standard deviation of Gaussian noise, pictures in [0, 1]."""
    mixup: NonNegativeFloat = 0.0
    """Parameter of the Beta distribution (Zhang et al. 2018)."""
    mixup_mask: Literal["soft", "binary"] = "soft"
    """soft: both truths with their weights; binary: the blended mask thresholded, as document 000 did."""
    cutmix: NonNegativeFloat = 0.0
    """Parameter of the Beta distribution (Yun et al. 2019). With MixUp on too, a picture gets one of them."""
    strength: Literal["fixed", "adaptive"] = "fixed"
    """adaptive: all ranges follow the gap between training and validation loss (document 003)."""
    copies: NonNegativeInt = 0
    """0: each picture once an epoch, augmented; n: the original and n augmented copies (document 002)."""
    copies_kind: Literal["random", "flips"] = "random"
    """flips: copy 1 is the whole set mirrored, copy 2 the whole set upturned, nothing else is done."""


class InputConfig(Part):
    """What the network gets."""

    size: Size = (256, 256)
    fit: Literal["resize", "letterbox", "crop"] = "resize"
    """resize stretches; letterbox keeps the aspect and pads; crop trains on windows at native scale."""
    normalise: Literal["unit", "symmetric", "imagenet", "dataset", "image"] = "imagenet"
    channels: Literal["auto", 1, 3, 4] = "auto"
    """auto: 1 where every training picture is grey, otherwise 3."""
    tta: Literal["none", "flips", "scales"] = "none"
    """How the finished model looks at a picture where `--tta` does not say (see `maskwright.predict.tta`): flips takes
    twice the work of none, scales six times. Training and its validation look once."""


class TrainConfig(Part):
    """The run."""

    epochs: PositiveInt = 50
    batch: PositiveInt | Literal["auto"] = 16
    """Pictures in one step; auto: what fits into the GPU (16 on a CPU)."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are summed before the optimiser steps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where CPU or GPU has the instructions."""
    patience: NonNegativeInt = 0
    """Epochs without a better `monitor` before the run stops; 0: never."""
    monitor: Literal["val_dice_image", "val_miou", "val_loss"] = "val_dice_image"
    """Decides which epoch is the best, and early stopping."""
    foreground: Share = 0.0
    """Least share of an epoch's pictures that hold a class other than 0 (with `input.fit` crop, before the window is
    cut): they are shown several times for it, each time augmented anew, and fewer of the others. 0: each once."""
    workers: NonNegativeInt = 0
    """Threads that decode when the store is built; 0: one per CPU."""
    compile: bool = False


class Recipe(Part):
    """Sections, and the seed from which all randomness is counted."""

    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    input: InputConfig = InputConfig()
    train: TrainConfig = TrainConfig()
    seed: NonNegativeInt = 0

    def to_yaml(self) -> str:
        """Every key with its value: what the run folder keeps."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


ALIASES: dict[str, str] = {
    "lr": "optim.learning_rate",
    "lr0": "optim.learning_rate",
    "learning_rate": "optim.learning_rate",
    "optimizer": "optim.name",
    "wd": "optim.weight_decay",
    "weight_decay": "optim.weight_decay",
    "scheduler": "optim.schedule",
    "warmup_epochs": "optim.warmup",
    "imgsz": "input.size",
    "img_size": "input.size",
    "image_size": "input.size",
    "size": "input.size",
    "batch": "train.batch",
    "batch_size": "train.batch",
    "epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "max_epochs": "train.epochs",
    "amp": "train.precision",
    "patience": "train.patience",
    "accumulate_grad_batches": "train.accumulate",
    "model": "model.name",
    "arch": "model.name",
    "encoder": "model.name",
    "pretrained": "model.encoder_weights",
    "loss": "loss.terms",
    "fliplr": "augment.flip",
    "flipud": "augment.flip_vertical",
    "degrees": "augment.rotate",
    "translate": "augment.shift",
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "random_state": "seed",
}
"""Familiar names of other tools -> ours; used for advice only, so that every recipe has one spelling."""


def recipe_keys() -> dict[str, object]:
    """Every dotted key of a recipe and its default."""
    keys: dict[str, object] = {}
    for section, value in Recipe():
        if isinstance(value, BaseModel):
            keys |= {f"{section}.{name}": default for name, default in value}
        else:
            keys[section] = value
    return keys


def suggest(unknown: str, known: list[str]) -> str:
    """`did you mean optim.learning_rate?`, or where to look."""
    if unknown in ALIASES and ALIASES[unknown] in known:
        return f"did you mean {ALIASES[unknown]}?"
    last = unknown.rsplit(".", 1)[-1]
    by_leaf = [key for key in known if key.rsplit(".", 1)[-1] == last]
    if not by_leaf and last in ALIASES and ALIASES[last] in known:
        by_leaf = [ALIASES[last]]
    close = by_leaf or difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    if not close:
        leaves = {key.rsplit(".", 1)[-1]: key for key in known}
        close = [leaves[leaf] for leaf in difflib.get_close_matches(last, leaves, n=1, cutoff=0.6)]
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """`{"optim": {"learning_rate": 1}}` -> `{"optim.learning_rate": 1}`; dotted keys pass.

    An empty section says nothing; within a section an empty mapping is a value.
    """
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and (value or "." not in prefix + key):
            flat |= flatten(cast(Mapping[str, object], value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parse_overrides(words: list[str]) -> dict[str, object]:
    """`["model.width=16", "input.size=180,240"]` -> dotted keys with values read as YAML."""
    overrides: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(
                f"{word!r} is not of the form section.key=value", suggest(word, list(recipe_keys()))
            )
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"the value of {key}={text} cannot be read", "quote it, or write plain YAML"
            ) from error
    return overrides


def _number(value: object) -> object:
    """YAML reads `1e-3` as text; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def make_recipe(values: Mapping[str, object], *, source: str = "the recipe") -> Recipe:
    """Sections and dotted keys, mixed as they come -> a complete Recipe. Raises ConfigError."""
    known = recipe_keys()
    nested: dict[str, Any] = {}
    for key, value in flatten(values).items():
        section, dot, name = key.partition(".")
        if key.startswith("loss.targets."):
            inside = nested.setdefault(section, {})
            inside["targets"] = {**inside.get("targets", {}), name.partition(".")[2]: value}
        elif key not in known:
            raise ConfigError(f"{source} has no key {key!r}", suggest(key, list(known)))
        elif dot:
            nested.setdefault(section, {})[name] = _number(value)
        else:
            nested[section] = _number(value)
    try:
        return Recipe.model_validate(nested)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise ConfigError(
            f"{key}={first['input']} in {source}: {first['msg']}", f"the default is {known.get(key)}"
        ) from error


_RECIPES = resources.files("maskwright") / "recipes"

RENAMED: dict[str, str] = {
    **{
        f"document-{document}-{model}": f"pets/{document}-{model}"
        for document in ("000", "001", "002", "004")
        for model in ("unet", "resnet34-unet")
    },
    "document-003-unet-plain": "mars/plain",
    "document-003-augmented": "mars/augmented",
}
"""What recipes were called before they had folders -> their names; both work."""


def recipe_names() -> list[str]:
    """The recipes inside the package, those of a folder behind the others and with it in front: `mars/plain`."""
    names = (
        name for name in _names_in(_RECIPES) if not name.startswith("studies/")
    )  # see `maskwright study`
    return sorted(names, key=lambda name: ("/" in name, name))


def _names_in(folder: Traversable, prefix: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _names_in(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml")


def read_recipe_text(name_or_file: str) -> str:
    """The YAML of a named recipe or of a file. Raises ConfigError."""
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"recipe {path} cannot be read: {error.strerror}",
                "give a file or a name of `maskwright recipes`",
            ) from error
    name = RENAMED.get(name_or_file, name_or_file)
    if name not in recipe_names():  # and so no path that leads out of the package
        raise ConfigError(f"there is no recipe {name!r}", suggest(name, recipe_names()))
    return _RECIPES.joinpath(*f"{name}.yaml".split("/")).read_text(encoding="utf-8")


def load_recipe(name_or_file: str | None = None, overrides: Mapping[str, object] | None = None) -> Recipe:
    """A named recipe or file (or the defaults), changed by `overrides` (dotted keys). Raises ConfigError."""
    values: dict[str, object] = {}
    if name_or_file is not None:
        try:
            loaded = yaml.safe_load(read_recipe_text(name_or_file)) or {}
        except yaml.YAMLError as error:
            raise ConfigError(
                f"recipe {name_or_file} is not YAML: {' '.join(str(error).split())}",
                "compare with `maskwright recipes NAME`",
            ) from error
        if not isinstance(loaded, Mapping):
            raise ConfigError(
                f"recipe {name_or_file} is not a mapping of sections",
                "compare with `maskwright recipes NAME`",
            )
        values = flatten(cast(Mapping[str, object], loaded))
    return make_recipe(values | flatten(overrides or {}), source=name_or_file or "the recipe")
