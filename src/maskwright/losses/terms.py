"""Sums of losses as text, `"0.5*ce + dice(per_image=1)"`: read, checked, weighted by class, spread over outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import ConfigDict, PositiveFloat, TypeAdapter, ValidationError
from torch import Tensor

from maskwright.config import LossConfig, suggest
from maskwright.errors import ConfigError
from maskwright.losses.contour import boundary, boundary_band, cldice, edge
from maskwright.losses.dense import huber, l1, l2
from maskwright.losses.pixel import bce, ce, focal, ohem
from maskwright.losses.region import dice, focal_tversky, iou, lovasz, tversky
from maskwright.losses.truth import Scalar, Weights, as_truth, edge_truth, wide
from maskwright.tensors import Logits, Outputs, Target

LOSSES: dict[str, Callable[..., Scalar]] = {
    "bce": bce,
    "boundary": boundary,
    "boundary_band": boundary_band,
    "ce": ce,
    "cldice": cldice,
    "dice": dice,
    "focal": focal,
    "focal_tversky": focal_tversky,
    "iou": iou,
    "lovasz": lovasz,
    "ohem": ohem,
    "tversky": tversky,
}
"""(logits, truth, valid, weights, **parameters) -> what it costs. Parameters have their range in their type."""

DENSE_LOSSES: dict[str, Callable[..., Scalar]] = {"huber": huber, "l1": l1, "l2": l2}
"""(answer, truth, **parameters) -> what it costs, both B H W."""


@dataclass(frozen=True)
class Term:
    """`weight` * LOSSES[`name`](..., **parameters), or one of DENSE_LOSSES."""

    weight: float
    name: str
    parameters: Mapping[str, Any]
    ramp: bool = False
    """Written like a parameter, `boundary(ramp=1)`, and open to every loss: the weight rises with the run."""

    def weight_at(self, progress: float) -> float:
        """`weight`, with `ramp` times max(0.01, progress): Kervadec et al. 2019 add 0.01 in each of 100 epochs."""
        return self.weight * max(0.01, progress) if self.ramp else self.weight


_TERM = re.compile(r"\s*(?:(?P<weight>[^*()\s]+)\s*\*)?\s*(?P<name>\w+)\s*(?:\((?P<inside>[^()]*)\))?\s*")
_PLUS = re.compile(r"(?<![0-9.][eE])\+(?![^()]*\))")
"""A plus that neither belongs to a number (1e+2) nor stands inside parentheses."""


def parse_terms(
    text: str, key: str = "loss.terms", losses: Mapping[str, Callable[..., Scalar]] = LOSSES
) -> tuple[Term, ...]:
    """`"0.5*ce + dice(per_image=1)"` -> its terms. Raises ConfigError, with the closest known name.

    Parameters are the keyword arguments of the losses, numbers in the range of their type, 0 or 1 for what is on or
    off; and `ramp` (see Term). `key` is where the text stands.
    """
    return tuple(_parse_term(part, f"{key}={text!r}", losses) for part in _PLUS.split(text))


def _parse_term(part: str, where: str, losses: Mapping[str, Callable[..., Scalar]]) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        example = "0.5*ce + dice(per_image=1)" if losses is LOSSES else "0.5*huber(delta=1)"
        raise ConfigError(
            f"{where} has a part {part.strip()!r} that is no loss",
            f"write a sum such as {example!r} of {', '.join(losses)}",
        )
    name = match["name"]
    if name not in losses:
        raise ConfigError(f"{where} names {name!r}", suggest(name, list(losses)))
    weight = _read(PositiveFloat, match["weight"] or "1", f"{where}: the weight of {name}")
    settings = signature(losses[name], eval_str=True).parameters.values()
    kinds: dict[str, Any] = {
        each.name: each.annotation for each in settings if each.kind is each.KEYWORD_ONLY
    }
    kinds["ramp"] = bool
    parameters: dict[str, Any] = {}
    for setting in filter(None, map(str.strip, (match["inside"] or "").split(","))):
        key, _, value = map(str.strip, setting.partition("="))
        if key not in kinds:
            raise ConfigError(f"{where}: {name} has no {key!r}", suggest(key, list(kinds)))
        parameters[key] = _read(kinds[key], value, f"{where}: {key} of {name}")
    ramp = parameters.pop("ramp", False)
    return Term(weight, name, parameters, ramp)


def _read(kind: Any, value: str, what: str) -> Any:
    """The value that a parameter of this type has when it is written like that."""
    if kind is bool and value not in {"0", "1"}:
        raise ConfigError(f"{what} is {value!r}", "write 0 or 1")
    try:
        return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        advice = error.errors()[0]["msg"].replace("Input", "it", 1)
        raise ConfigError(f"{what} is {value!r}", advice) from error


def class_weights(config: LossConfig, class_pixels: Int[np.ndarray, " K"]) -> Weights | None:
    """What `loss.class_weights` means for n training pixels counted per class; None: all alike.

    balanced: 1 / sqrt(share of the pixels).
    effective: (1 - beta) / (1 - beta^n), the inverse of the effective number of samples (Cui et al. 2019), with
    beta = exp(-1/N), which is the paper's 1 - 1/N, and N the mean of n over the classes that occur. Pixels are
    copies of their neighbours: were only one in c worth counting, n and N would both shrink by c and beta^n would
    stay; a beta of the paper's, meant for counts of pictures, would give every class the same weight. Rare
    classes weigh as their inverse share, classes above the mean nearly alike.
    Both are scaled to mean 1 over the classes that occur; a class that never occurs weighs 0.
    Raises ConfigError for numbers that do not fit the classes.
    """
    if config.class_weights == "none":
        return None
    if config.class_weights in ("balanced", "effective"):
        present = class_pixels > 0
        if not present.any():
            return None
        sizes = class_pixels[present] / class_pixels[present].mean()  # n / N
        raw = 1 / np.sqrt(sizes) if config.class_weights == "balanced" else -1 / np.expm1(-sizes)
        weights = np.zeros(len(class_pixels))
        weights[present] = raw / raw.mean()
        return torch.tensor(weights, dtype=torch.float32)
    if len(config.class_weights) != len(class_pixels):
        raise ConfigError(
            f"loss.class_weights has {len(config.class_weights)} numbers for {len(class_pixels)} classes",
            "write one per class, background included",
        )
    if not any(config.class_weights):
        raise ConfigError("loss.class_weights are all 0", "give at least one class some weight")
    return torch.tensor(config.class_weights, dtype=torch.float32)


class Loss(Protocol):
    """What a network's answer costs, as training calls it."""

    def __call__(
        self, outputs: Logits | Sequence[Logits] | Outputs, target: Target, progress: float = 1.0
    ) -> Scalar:
        """`progress`: the share of the run that is done, from 0 to 1."""
        ...


def make_loss(
    config: LossConfig,
    class_weights: Weights | None,
    *,
    deep_supervision: Literal["none", "levels", "fused"] = "none",
    targets: Collection[str] = (),
) -> Loss:
    """What `config` says as one function of what the network says. `targets`: dense ones that the data set has.

    Raises ConfigError.

    Logits of another size than the labels are interpolated bilinearly to it and judged there. One output costs
    `terms`. A sequence is read as `deep_supervision`, the key of the model, says: levels, full size first, or a
    fused output and then the levels. The fused output costs `terms`. The levels cost `levels`, a sum for each, as
    written; without `levels` they cost `terms` each, with weights 1, 1/2, 1/4, ... scaled to sum 1 (nnU-Net,
    Isensee et al. 2021). `class_weights` are used where they lie: put them on the device of the logits once, not in
    every step.
    """
    terms = parse_terms(config.terms)
    auxiliary = _auxiliary(config, targets)
    levels = tuple(parse_terms(text, "loss.levels") for text in config.levels)
    if levels and deep_supervision == "none":
        raise ConfigError(
            f"loss.levels has {len(levels)} sums, but the network has one output",
            "set model.deep_supervision=levels, or leave loss.levels away",
        )
    fused = 1 if deep_supervision == "fused" else 0

    def plan(outputs: int) -> list[tuple[float, tuple[Term, ...]]]:
        """The weight and the terms of each output of a sequence."""
        count = outputs - fused
        if levels and len(levels) != count:
            raise ConfigError(
                f"loss.levels has {len(levels)} sums, but the network has outputs at {count} levels",
                "write one sum per level, full size first",
            )
        halves = [0.5**level for level in range(count)]
        each = [(1.0, sums) for sums in levels] or [(half / sum(halves), terms) for half in halves]
        return [(1.0, terms)] * fused + each

    def loss(outputs: Logits | Sequence[Logits] | Outputs, target: Target, progress: float = 1.0) -> Scalar:
        said, answers = outputs if isinstance(outputs, Outputs) else (outputs, None)
        judged = [said] if isinstance(said, Tensor) else said
        shares = [(1.0, terms)] if isinstance(said, Tensor) else plan(len(said))
        truth, valid = as_truth(target, judged[0].shape[1])
        total = wide(judged[0]).new_zeros(())
        for logits, (share, sums) in zip(judged, shares, strict=True):
            full = _resized(logits, target.labels.shape[-2:])
            for term in sums:
                value = LOSSES[term.name](full, truth, valid, class_weights, **term.parameters)
                total = total + share * term.weight_at(progress) * value
        return total if answers is None else total + auxiliary(answers, target, progress)

    return loss


def _auxiliary(
    config: LossConfig, targets: Collection[str]
) -> Callable[[Float[Tensor, "B A H W"], Target, float], Scalar]:
    """What the answers of `config.heads` cost together."""
    unknown = [name for name in config.targets if name not in targets]
    if unknown:
        named = f"loss.targets names {unknown[0]!r}"
        if not targets:
            raise ConfigError(
                f"{named}, and the data have no targets",
                f'write targets: {{{unknown[0]}: "{unknown[0]}/{{id}}.png"}} in dataset.yaml',
            )
        raise ConfigError(f"{named}, which the data do not have", suggest(unknown[0], list(targets)))
    sums = [parse_terms(text, f"loss.targets.{name}", DENSE_LOSSES) for name, text in config.targets.items()]

    def loss(answers_BAHW: Float[Tensor, "B A H W"], target: Target, progress: float) -> Scalar:
        total, first = wide(answers_BAHW).new_zeros(()), 0
        if config.edge:
            total, first = config.edge * edge(answers_BAHW[:, :1], *edge_truth(target, config.edge_radius)), 1
        if sums:
            assert target.dense is not None, "whoever loads the batch reads the same recipe"
            fields = zip(answers_BAHW[:, first:].unbind(1), target.dense.unbind(1), sums, strict=True)
            for answer_BHW, truth_BHW, terms in fields:
                for term in terms:
                    value = DENSE_LOSSES[term.name](answer_BHW, truth_BHW, **term.parameters)
                    total = total + term.weight_at(progress) * value
        return total

    return loss


def _resized(logits: Logits, size: torch.Size) -> Logits:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(wide(logits), tuple(size), mode="bilinear")
