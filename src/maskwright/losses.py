"""Losses as pure functions, and sums of them written as `"0.5*ce + dice(per_image=1)"`.

Symbols: z logits, T truth (shares of the classes, 0 or 1 without MixUp), P = sigmoid(z) for one channel and
softmax(z) for more, V 1 where the truth is known and 0 elsewhere, w class weights, i a pixel of the
batch, k a class. All sums run in float32 at least, also under autocast. A batch without a single known
pixel costs 0 and has zero gradients.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maskwright.config import LossConfig, suggest
from maskwright.errors import ConfigError
from maskwright.tensors import IGNORE, Labels, Logits, Target

Truth: TypeAlias = Float[Tensor, "B C H W"]
"""One channel: the share of class 1. More: the shares of the classes."""
Valid: TypeAlias = Float[Tensor, "B 1 H W"]
"""1 where the truth is known, 0 elsewhere."""
Weights: TypeAlias = Float[Tensor, " K"]
"""One per class: two for a sigmoid network, whose one channel stands for class 1 against class 0."""
Scalar: TypeAlias = Float[Tensor, ""]


def as_truth(target: Target, channels: int) -> tuple[Truth, Valid]:
    """Labels -> shares of the classes, and where they are known.

    With MixUp the truth is `weight` * labels + (1 - weight) * others. A pixel that is IGNORE in either of
    the two counts nowhere, unless that one has no weight in its picture.
    """
    truth, known = _shares(target.labels, channels)
    if target.others is None or target.weight is None:
        return truth, known.float()
    others, others_known = _shares(target.others, channels)
    weight = target.weight.to(truth).view(-1, 1, 1, 1)
    known = (known | (weight == 0)) & (others_known | (weight == 1))
    return weight * truth + (1 - weight) * others, known.float()


def _shares(labels: Labels, channels: int) -> tuple[Tensor, Tensor]:
    first = 1 if channels == 1 else 0
    ids = torch.arange(first, first + channels, device=labels.device, dtype=labels.dtype)
    one_hot = labels.unsqueeze(1) == ids.view(1, -1, 1, 1)  # IGNORE is no class: zeros
    return one_hot.float(), (labels != IGNORE).unsqueeze(1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0, with zero gradients, where nothing was summed."""
    return numerator / torch.where(denominator > 0, denominator, 1)


def bce(
    logits_BCHW: Logits, truth_BCHW: Truth, valid_B1HW: Valid, weights_K: Weights | None = None
) -> Scalar:
    """- sum_i V_i (w_1 T_i log P_i + w_0 (1 - T_i) log(1 - P_i)) / sum_i V_i (w_1 T_i + w_0 (1 - T_i)).

    With more than one channel P_k = sigmoid(z_k): each class is told from the rest, w_k stands in both
    terms, and the sums run over the classes too. Without weights this is torch's
    binary_cross_entropy_with_logits over the known pixels.
    """
    logits, truth, valid = _wide(logits_BCHW), truth_BCHW, valid_B1HW
    off, on = logits.new_ones(2, 1, 1, 1)
    if weights_K is not None:
        weights = weights_K.to(logits).view(-1, 1, 1)
        off, on = (weights[:1], weights[1:]) if logits.shape[1] == 1 else (weights, weights)  # C 1 1
    share_on, share_off = valid * on * truth, valid * off * (1 - truth)  # B C H W
    cost = -(share_on * F.logsigmoid(logits) + share_off * F.logsigmoid(-logits)).sum()
    return _ratio(cost, (share_on + share_off).sum())


def ce(logits_BCHW: Logits, truth_BCHW: Truth, valid_B1HW: Valid, weights_K: Weights | None = None) -> Scalar:
    """- sum_ik V_i w_k T_ik log P_ik / sum_ik V_i w_k T_ik; for one channel the same as `bce`.

    For truth of 0 and 1 this is torch's cross_entropy with `ignore_index` and `weight`, for MixUp the sum of
    both truths' cross-entropies, each with its share.
    """
    if logits_BCHW.shape[1] == 1:
        return bce(logits_BCHW, truth_BCHW, valid_B1HW, weights_K)
    share = valid_B1HW * truth_BCHW  # B K H W
    if weights_K is not None:
        share = share * weights_K.to(share).view(-1, 1, 1)
    cost = -(share * F.log_softmax(_wide(logits_BCHW), dim=1)).sum()
    return _ratio(cost, share.sum())


def dice(
    logits_BCHW: Logits,
    truth_BCHW: Truth,
    valid_B1HW: Valid,
    weights_K: Weights | None = None,
    *,
    per_image: bool = False,
    eps: float = 1.0,
) -> Scalar:
    """1 - mean_k (2 |V P_k T_k| + eps) / (|V P_k| + |V T_k| + eps) (Milletari et al. 2016, squares left out).

    |.| sums over the batch; with `per_image` over each picture, and the mean runs over the pictures that have
    a known pixel too. The mean over the classes is weighted by w_k. One channel: the foreground alone, so
    that weights change nothing.
    """
    logits, known = _wide(logits_BCHW), valid_B1HW > 0
    one = logits.shape[1] == 1
    share = torch.sigmoid(logits) if one else torch.softmax(logits, dim=1)
    over = (2, 3) if per_image else (0, 2, 3)
    hits = (valid_B1HW * share * truth_BCHW).sum(over)  # B C, or C
    areas = (valid_B1HW * (share + truth_BCHW)).sum(over)  # B C, or C
    miss = 1 - (2 * hits + eps) / (areas + eps)
    weights = torch.ones_like(miss)
    if weights_K is not None and not one:
        weights = weights * weights_K.to(logits)
    seen = known.sum((1, 2, 3) if per_image else (0, 1, 2, 3)) > 0  # B, or scalar
    weights = weights * seen.unsqueeze(-1)
    return _ratio((weights * miss).sum(), weights.sum())


LOSSES: dict[str, Callable[..., Scalar]] = {"bce": bce, "ce": ce, "dice": dice}


@dataclass(frozen=True)
class Term:
    """`weight` * LOSSES[`name`](..., **parameters)."""

    weight: float
    name: str
    parameters: Mapping[str, float | bool]


_TERM = re.compile(r"\s*(?:(?P<weight>[^*()\s]+)\s*\*)?\s*(?P<name>\w+)\s*(?:\((?P<inside>[^()]*)\))?\s*")
_PLUS = re.compile(r"(?<![0-9.][eE])\+(?![^()]*\))")
"""A plus that neither belongs to a number (1e+2) nor stands inside parentheses."""


def parse_terms(text: str) -> tuple[Term, ...]:
    """`"0.5*ce + dice(per_image=1)"` -> its terms. Raises ConfigError with the closest known name."""
    return tuple(_parse_term(part, text) for part in _PLUS.split(text))


def _parse_term(part: str, text: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise ConfigError(
            f"loss.terms={text!r} has a part {part.strip()!r} that is no loss",
            f"write a sum such as '0.5*ce + dice(per_image=1)' of {', '.join(LOSSES)}",
        )
    name = match["name"]
    if name not in LOSSES:
        raise ConfigError(f"loss.terms={text!r} names {name!r}", suggest(name, list(LOSSES)))
    weight = _positive(match["weight"], f"the weight of {name}", text) if match["weight"] else 1.0
    settings = inspect.signature(LOSSES[name]).parameters.values()
    defaults = {each.name: each.default for each in settings if each.kind is each.KEYWORD_ONLY}
    parameters: dict[str, float | bool] = {}
    for setting in filter(None, map(str.strip, (match["inside"] or "").split(","))):
        key, _, value = map(str.strip, setting.partition("="))
        if key not in defaults:
            advice = suggest(key, list(defaults)) if defaults else "write it without parentheses"
            raise ConfigError(f"loss.terms={text!r}: {name} has no {key!r}", advice)
        if not isinstance(defaults[key], bool):
            parameters[key] = _positive(value, f"{key} of {name}", text)
        elif value in {"0", "1"}:
            parameters[key] = value == "1"
        else:
            raise ConfigError(f"loss.terms={text!r}: {key} of {name} is {value!r}", "write 0 or 1")
    return Term(weight, name, parameters)


def _positive(value: str, what: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(f"loss.terms={text!r}: {what} is {value!r}", "write a number above 0")
    return number


def class_weights(config: LossConfig, class_pixels: Int[np.ndarray, " K"]) -> Weights | None:
    """What `loss.class_weights` means for training pixels counted per class; None: all alike.

    balanced: 1 / sqrt(share of the pixels), scaled to mean 1 over the classes that occur; a class that never
    occurs weighs 0. Raises ConfigError for numbers that do not fit the classes.
    """
    if config.class_weights == "none":
        return None
    if config.class_weights == "balanced":
        present = class_pixels > 0
        if not present.any():
            return None
        weights = np.zeros(len(class_pixels))
        weights[present] = 1 / np.sqrt(class_pixels[present] / class_pixels.sum())
        return torch.tensor(weights / weights[present].mean(), dtype=torch.float32)
    if len(config.class_weights) != len(class_pixels):
        raise ConfigError(
            f"loss.class_weights has {len(config.class_weights)} numbers for {len(class_pixels)} classes",
            "write one per class, background included",
        )
    if not any(config.class_weights):
        raise ConfigError("loss.class_weights are all 0", "give at least one class some weight")
    return torch.tensor(config.class_weights, dtype=torch.float32)


def make_loss(config: LossConfig, class_weights: Weights | None) -> Callable[[Logits, Target], Scalar]:
    """The sum of `config.terms` as one function of logits and labels. Raises ConfigError.

    `class_weights` are used where they lie: put them on the device of the logits once, not in every step.
    """
    terms = parse_terms(config.terms)
    parts = [(term.weight, partial(LOSSES[term.name], **term.parameters)) for term in terms]

    def loss(logits: Logits, target: Target) -> Scalar:
        truth, valid = as_truth(target, logits.shape[1])
        return sum(
            (weight * part(logits, truth, valid, class_weights) for weight, part in parts),
            start=_wide(logits).new_zeros(()),
        )

    return loss
