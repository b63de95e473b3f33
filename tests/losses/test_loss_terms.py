"""Sums of losses as text, class weights, and several outputs of one network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.config import LossConfig, make_recipe
from maskwright.errors import ConfigError
from maskwright.losses import (
    LOSSES,
    Term,
    as_truth,
    boundary,
    ce,
    class_weights,
    dice,
    make_loss,
    parse_terms,
)
from maskwright.tensors import Target

Make = Callable[..., Tensor]
Agree = Callable[..., None]


def test_a_sum_is_the_sum_of_its_terms(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    truth, valid = as_truth(target, 3)
    weights = torch.tensor([0.5, 1.0, 1.5])
    ours = make_loss(LossConfig(terms="0.45*dice(per_image=1, eps=2) + ce"), weights)(logits, target)
    theirs = 0.45 * dice(logits, truth, valid, weights, per_image=True, eps=2.0) + ce(
        logits, truth, valid, weights
    )
    agree(logits, ours, theirs)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ce", [Term(1, "ce", {})]),
        (" 0.5 * ce+dice ( per_image = 1 ) ", [Term(0.5, "ce", {}), Term(1, "dice", {"per_image": True})]),
        (
            "1e+1*bce + dice(eps=1e+2, per_image=0)",
            [Term(10, "bce", {}), Term(1, "dice", {"eps": 100, "per_image": False})],
        ),
        (
            "focal(gamma=0) + ce(smoothing=0.1)",
            [Term(1, "focal", {"gamma": 0}), Term(1, "ce", {"smoothing": 0.1})],
        ),
        ("boundary_band(radius=3)", [Term(1, "boundary_band", {"radius": 3})]),
        ("boundary(ramp=1) + ce(ramp=0)", [Term(1, "boundary", {}, ramp=True), Term(1, "ce", {})]),
    ],
)
def test_terms_are_read(text: str, terms: list[Term]) -> None:
    assert list(parse_terms(text)) == terms


@pytest.mark.parametrize("name", LOSSES)
def test_every_parameter_can_be_written_and_has_a_default_in_its_range(name: str) -> None:
    settings = inspect.signature(LOSSES[name]).parameters.values()
    defaults: dict[str, Any] = {
        each.name: each.default for each in settings if each.kind is each.KEYWORD_ONLY
    }
    for key, value in defaults.items():
        (term,) = parse_terms(f"{name}({key}={int(value) if isinstance(value, bool) else value})")
        assert term.parameters == {key: value}
        assert type(term.parameters[key]) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no loss"),
        ("ce +", "no loss"),
        ("ce - dice", "no loss"),
        ("dice(per_image=1", "no loss"),
        ("dise + ce", "loss.terms='dise . ce' names 'dise'; did you mean dice"),
        ("-1*ce", "weight of ce is '-1'; it should be greater than 0"),
        ("0*ce", "weight of ce is '0'; it should be greater than 0"),
        ("nan*ce", "weight of ce is 'nan'"),
        ("inf*ce", "weight of ce is 'inf'; it should be a finite number"),
        ("dice(per_imag=1)", "no 'per_imag'; did you mean per_image"),
        ("bce(gamma=2)", "bce has no 'gamma'; known are: ramp"),
        ("dice(per_image=2)", "per_image of dice is '2'; write 0 or 1"),
        ("boundary(ramp=0.5)", "ramp of boundary is '0.5'; write 0 or 1"),
        ("dice(eps=0)", "eps of dice is '0'; it should be greater than 0"),
        ("dice(eps)", "eps of dice is ''"),
        ("ce(smoothing=1)", "smoothing of ce is '1'; it should be less than 1"),
        ("tversky(alpha=-0.1)", "alpha of tversky is '-0.1'; it should be greater than or equal to 0"),
        ("ohem(share=2)", "share of ohem is '2'; it should be less than or equal to 1"),
        ("boundary_band(radius=1.5)", "radius of boundary_band is '1.5'; it should be a valid integer"),
        ("cldice(iterations=0)", "iterations of cldice is '0'; it should be greater than 0"),
    ],
)
def test_terms_that_mean_nothing_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_loss(LossConfig(terms=text), None)


def test_a_ramp_raises_its_term_alone(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    plain, edge = (each(logits, *as_truth(target, 3)) for each in (ce, boundary))
    loss = make_loss(LossConfig(terms="ce + 0.5*boundary(ramp=1)"), None)
    agree(logits, loss(logits, target, 0.0), plain + 0.5 * 0.01 * edge)
    agree(logits, loss(logits, target, 0.4), plain + 0.5 * 0.4 * edge)
    agree(logits, loss(logits, target), plain + 0.5 * edge)


def make_outputs(logits: Tensor) -> list[Tensor]:
    """Full size, half, quarter."""
    return [logits, F.avg_pool2d(logits, 2), F.avg_pool2d(logits, 4)]


def enlarged(logits: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(logits, like.shape[-2:], mode="bilinear")


def test_levels_share_the_terms_with_falling_weights(
    make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    given, outputs = as_truth(target, 3), make_outputs(logits)
    each = [ce(enlarged(output, logits), *given) for output in outputs]
    loss = make_loss(LossConfig(terms="ce"), None, deep_supervision="levels")
    agree(logits, loss(outputs, target), (4 * each[0] + 2 * each[1] + each[2]) / 7)
    agree(logits, loss(logits, target), each[0])  # evaluation returns the first output alone


def test_each_level_has_its_own_sum_as_written(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    given, outputs = as_truth(target, 3), make_outputs(logits)[:2]
    config = LossConfig(terms="bce", levels=("ce", "0.5*dice + boundary(ramp=1)"))
    theirs = ce(logits, *given) + 0.5 * dice(enlarged(outputs[1], logits), *given)
    theirs = theirs + 0.2 * boundary(enlarged(outputs[1], logits), *given)
    agree(logits, make_loss(config, None, deep_supervision="levels")(outputs, target, 0.2), theirs)


@pytest.mark.parametrize("levels", [(), ("dice", "0.5*dice", "0.25*dice")])
def test_the_fused_output_is_judged_by_the_terms(
    levels: tuple[str, ...], make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    given, outputs, fused = as_truth(target, 3), make_outputs(logits), logits * 2
    judge, shares = (dice, [1, 0.5, 0.25]) if levels else (ce, [4 / 7, 2 / 7, 1 / 7])
    theirs = ce(fused, *given)
    for share, output in zip(shares, outputs, strict=True):
        theirs = theirs + share * judge(enlarged(output, logits), *given)
    config = LossConfig(terms="ce", levels=levels)
    loss = make_loss(config, None, deep_supervision="fused")
    agree(logits, loss([fused, *outputs], target), theirs)


def test_levels_that_do_not_fit_the_network_are_refused(make_logits: Make, make_labels: Make) -> None:
    config, outputs, target = (
        LossConfig(levels=("ce", "ce")),
        make_outputs(make_logits(3)),
        Target(make_labels(3)),
    )
    with pytest.raises(ConfigError, match="2 sums, but the network has one output"):
        make_loss(config, None)
    with pytest.raises(ConfigError, match="2 sums, but the network has outputs at 3 levels"):
        make_loss(config, None, deep_supervision="levels")(outputs, target)
    with pytest.raises(ConfigError, match="2 sums, but the network has outputs at 1 levels"):
        make_loss(config, None, deep_supervision="fused")(outputs[:2], target)
    with pytest.raises(ConfigError, match=r"loss.levels='cee' names 'cee'"):
        make_loss(LossConfig(levels=("ce", "cee")), None, deep_supervision="levels")


def test_levels_are_written_as_a_list() -> None:
    assert make_recipe({"loss.levels": ["ce", "0.5*dice"]}).loss.levels == ("ce", "0.5*dice")


def test_balanced_weights_by_hand() -> None:
    """Shares 0.64, 0.32, 0.04 and 0: 1/0.8, 1/sqrt(0.32), 1/0.2, divided by their mean; 0 for the last."""
    weights = class_weights(LossConfig(class_weights="balanced"), np.array([64, 32, 4, 0]))
    raw = [1 / 0.8, 1 / math.sqrt(0.32), 1 / 0.2]
    assert weights is not None
    assert weights.tolist() == pytest.approx([3 * each / sum(raw) for each in raw] + [0])
    assert weights.dtype == torch.float32


def test_effective_weights_are_the_papers_formula() -> None:
    """(1 - beta) / (1 - beta^n) with beta = 1 - 1/N, N the mean count; 0 for the class that is not there."""
    pixels = np.array([2_400_000, 590_000, 0, 10_000])
    beta = 1 - 1 / 1_000_000
    raw = [(1 - beta) / (1 - beta**n) if n else 0 for n in pixels.tolist()]
    weights = class_weights(LossConfig(class_weights="effective"), pixels)
    assert weights is not None
    assert weights.tolist() == pytest.approx([3 * each / sum(raw) for each in raw], rel=1e-5)
    assert weights.dtype == torch.float32


def test_effective_weights_do_not_depend_on_the_size_of_the_pictures() -> None:
    config, pixels = LossConfig(class_weights="effective"), np.array([900, 90, 10])
    small, large = class_weights(config, pixels), class_weights(config, pixels * 10**12)
    assert small is not None
    assert large is not None
    torch.testing.assert_close(small, large)
    assert (small[2] / small[1]).item() == pytest.approx(9, rel=0.2)  # rare ones: as the inverse share


def test_weights_as_given_or_none() -> None:
    pixels = np.array([5, 5])
    assert class_weights(LossConfig(), pixels) is None
    assert class_weights(LossConfig(class_weights="balanced"), np.array([0, 0])) is None
    given = class_weights(LossConfig(class_weights=(0, 2)), pixels)
    assert given is not None
    assert given.tolist() == [0, 2]


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 numbers for 2 classes"):
        class_weights(LossConfig(class_weights=(1, 1, 1)), np.array([5, 5]))
    with pytest.raises(ConfigError, match="all 0"):
        class_weights(LossConfig(class_weights=(0, 0)), np.array([5, 5]))
