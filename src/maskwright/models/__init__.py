"""Networks by name. Each is a plain nn.Module: NCHW pictures in, logits out, any height and width."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from pydantic import ValidationError
from torch import nn

from maskwright.config import PRESETS, ModelConfig, suggest
from maskwright.errors import ConfigError
from maskwright.models import zoo
from maskwright.models.dual_unet import DualUNet
from maskwright.models.resnet34_unet import ResNet34UNet
from maskwright.models.unet import UNet
from maskwright.models.unetplusplus import UNetPlusPlus
from maskwright.models.zoo import load_encoder

MODELS: dict[str, Callable[[ModelConfig, int, int], nn.Module]] = {
    "unet": UNet.build,
    **dict.fromkeys(PRESETS, UNet.build),
    "resnet34-unet": ResNet34UNet.build,
    "unetplusplus": UNetPlusPlus.build,
    "dual-unet": DualUNet.build,
}
"""Our own: (config, input channels, output channels) -> the network with its first weights. `zoo` has others."""

_UNET = ("attention", "bottleneck", "upsample", "deep_supervision")
PARTS = (*_UNET, "stochastic_depth")
TAKES: dict[str, tuple[str, ...]] = {
    "unet": _UNET,
    **dict.fromkeys(PRESETS, _UNET),
    "resnet34-unet": PARTS,
    "unetplusplus": ("upsample", "deep_supervision"),
    "dual-unet": ("deep_supervision",),
}
"""Which of PARTS a network is made with; a recipe that asks another network for one is refused."""


def output_channels(config: ModelConfig, classes: int) -> int:
    """1 (sigmoid: the logit of class 1 against class 0) or `classes` (softmax). Raises ConfigError."""
    if classes < 2:
        raise ConfigError(
            f"a model cannot tell {classes} class apart", "write background out as a class of its own"
        )
    if config.outputs == "sigmoid" and classes != 2:
        raise ConfigError(
            f"model.outputs=sigmoid is for two classes, not {classes}", "use model.outputs=softmax"
        )
    sigmoid = config.outputs == "sigmoid" or (config.outputs == "auto" and classes == 2)
    return 1 if sigmoid else classes


def check_parts(config: ModelConfig) -> None:
    """Raises ConfigError where the config asks for a part that its network does not have."""
    for part in PARTS:
        default, value = ModelConfig.model_fields[part].default, getattr(config, part)
        if value != default and part not in TAKES.get(config.name, ()):
            takers = [name for name in TAKES if part in TAKES[name] and name not in PRESETS]
            if part == "stochastic_depth":
                takers.append("most encoders of the zoo")
            shown = [",".join(it) if isinstance(it, tuple) else str(it) for it in (value, default)]
            raise ConfigError(
                f"model.{part}={shown[0]}: {config.name} has no such part",
                f"{' and '.join(takers)} do; leave it at {shown[1] or '[]'} here",
            )


def build_model(
    name_or_config: str | ModelConfig, in_channels: int, classes: int, **changes: object
) -> nn.Module:
    """A network with random or, where the config says so, pretrained encoder weights.

    `changes` are fields of ModelConfig: `build_model("unet", 1, 5, width=16)`. In evaluation the result maps
    (B, in_channels, H, W) to logits (B, output_channels(config, classes), H, W). With `deep_supervision` it
    gives a list of logits in training, the one that evaluation gives first. `models.heads.add_heads` gives it auxiliary
    ones. Raises ConfigError, and UserError where pretrained weights cannot be had.
    """
    config = name_or_config if isinstance(name_or_config, ModelConfig) else ModelConfig(name=name_or_config)
    for key in changes:
        if key not in ModelConfig.model_fields:
            raise ConfigError(f"a model has no {key!r}", suggest(key, list(ModelConfig.model_fields)))
    try:
        config = ModelConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"model.{first['loc'][0]}={first['input']}: {first['msg']}") from error
    if zoo.is_zoo(config.name):
        return zoo.build(config, in_channels, output_channels(config, classes))
    if config.name not in MODELS:
        known = [*MODELS, *zoo.ARCHITECTURES, *zoo.SETRS]
        raise ConfigError(f"there is no model {config.name!r}", suggest(config.name, known))
    check_parts(config)
    model = MODELS[config.name](config, in_channels, output_channels(config, classes))
    if config.encoder_weights != "none":
        load_encoder(model, config.encoder_weights)
    return model


def output_levels(config: ModelConfig) -> int:
    """How many levels of the network deep supervision judges, a fused output not counted; 1 without it.

    Raises ConfigError as `build_model` does.
    """
    if config.deep_supervision == "none":
        return 1
    with torch.device("meta"):
        outputs = build_model(config, 3, 2, encoder_weights="none").get_submodule("outputs")
    return 1 + len(list(outputs.get_submodule("heads").children()))


def parameters(model: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)


def flops(model: nn.Module, input_hw: tuple[int, int], in_channels: int) -> int:
    """Floating-point operations of one prediction, B = 1; a multiplication and its addition are two.

    Counted by torch on tensors without memory, so any size costs nothing. The model is not touched.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings torch.export: 60 MB

    shadow = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.empty(1, in_channels, *input_hw, device="meta"))
    return int(counter.get_total_flops())
