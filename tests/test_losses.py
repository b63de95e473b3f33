"""Losses against torch, smp and MONAI in float64 with their gradients, and against hand computations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.config import LossConfig
from maskwright.errors import ConfigError
from maskwright.losses import (
    LOSSES,
    Term,
    as_truth,
    bce,
    ce,
    class_weights,
    dice,
    make_loss,
    parse_terms,
)
from maskwright.tensors import IGNORE, Target

B, H, W = 3, 5, 6
NAMES = ("bce", "ce", "dice")


def make_logits(channels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(B, channels, H, W, dtype=torch.float64, generator=generator)
    return logits.requires_grad_()


def make_labels(classes: int, seed: int = 1, *, ignore: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (B, H, W), generator=generator)
    if ignore:
        labels[torch.rand(B, H, W, generator=generator) < 0.3] = IGNORE
    return labels


def same_value_and_gradient(logits: Tensor, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (own,) = torch.autograd.grad(ours, logits)
    (other,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [bce, ce])
def test_one_channel_is_torchs_bce_over_the_known_pixels(loss: Callable[..., Tensor]) -> None:
    logits, labels = make_logits(1), make_labels(2)
    known = labels != IGNORE
    theirs = F.binary_cross_entropy_with_logits(logits[:, 0][known], labels[known].double())
    same_value_and_gradient(logits, loss(logits, *as_truth(Target(labels), 1)), theirs)


def test_bce_of_more_channels_tells_each_class_from_the_rest() -> None:
    logits, labels = make_logits(4), make_labels(4)
    known = labels != IGNORE
    one_hot = F.one_hot(labels[known], 4).double()
    theirs = F.binary_cross_entropy_with_logits(logits.permute(0, 2, 3, 1)[known], one_hot)
    same_value_and_gradient(logits, bce(logits, *as_truth(Target(labels), 4)), theirs)


def test_bce_of_more_channels_weighs_the_classes() -> None:
    logits, labels, weights = make_logits(3), make_labels(3), torch.tensor([0.0, 1.0, 3.0])
    truth, valid = as_truth(Target(labels), 3)
    one, two = (bce(logits[:, k : k + 1], truth[:, k : k + 1], valid) for k in (1, 2))
    same_value_and_gradient(logits, bce(logits, truth, valid, weights), (one + 3 * two) / 4)


@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 1.0, 2.5]])
def test_ce_is_torchs_with_ignore_and_weights(weights: list[float] | None) -> None:
    logits, labels = make_logits(4), make_labels(4)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    theirs = F.cross_entropy(logits, labels, weight=weight, ignore_index=IGNORE)
    same_value_and_gradient(logits, ce(logits, *as_truth(Target(labels), 4), weight), theirs)


def test_one_weighted_channel_is_torchs_ce_on_two() -> None:
    """The logit of class 1 against class 0 is the pair (0, z)."""
    logits, labels, weight = make_logits(1), make_labels(2), torch.tensor([0.3, 2.0], dtype=torch.float64)
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    theirs = F.cross_entropy(pair, labels, weight=weight, ignore_index=IGNORE)
    same_value_and_gradient(logits, ce(logits, *as_truth(Target(labels), 1), weight), theirs)


@pytest.mark.parametrize("channels", [1, 4])
def test_mixup_is_the_weighted_sum_of_both_cross_entropies(channels: int) -> None:
    classes = max(channels, 2)
    logits = make_logits(channels)
    labels, others = make_labels(classes, 1, ignore=False), make_labels(classes, 2, ignore=False)
    weight = torch.tensor([0.2, 0.7, 1.0], dtype=torch.float64)
    ours = ce(logits, *as_truth(Target(labels, others, weight.float()), channels))
    full = logits if channels > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)
    per_pixel = [F.cross_entropy(full, truth, reduction="none") for truth in (labels, others)]
    share = weight.view(-1, 1, 1)
    theirs = (share * per_pixel[0] + (1 - share) * per_pixel[1]).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # the shares are float32


def test_mixup_knows_a_pixel_where_both_truths_with_weight_do() -> None:
    labels = torch.tensor([[[0, 1, IGNORE, IGNORE]]]).expand(3, -1, -1)
    others = torch.tensor([[[1, IGNORE, 1, IGNORE]]]).expand(3, -1, -1)
    truth, valid = as_truth(Target(labels, others, torch.tensor([0.25, 1.0, 0.0])), 1)
    assert valid[:, 0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
    assert truth[:, 0, 0, 0].tolist() == [0.75, 0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_truth_of_small_and_large_integers(dtype: torch.dtype) -> None:
    labels = torch.tensor([[[0, 2, IGNORE]]]).to(dtype)
    truth, valid = as_truth(Target(labels), 3)
    assert truth[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert valid[0, 0, 0].tolist() == [1, 1, 0]


def test_dice_by_hand() -> None:
    """Probabilities 1, 1/2, 0 and truth 1, 1, 0; the fourth pixel is ignored: hits 1.5, areas 1.5 + 2."""
    logits = torch.tensor([[[[80.0, 0.0, -80.0, 5.0]]]])
    labels = torch.tensor([[[1, 1, 0, IGNORE]]])
    assert dice(logits, *as_truth(Target(labels), 1)).item() == pytest.approx(1 - (3 + 1) / (3.5 + 1))
    small = dice(logits, *as_truth(Target(labels), 1), eps=1e-6).item()
    assert small == pytest.approx(1 - 3 / 3.5, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_dice_is_smps_sums_over_the_batch(channels: int) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    mode = "binary" if channels == 1 else "multiclass"
    theirs = smp.DiceLoss(mode, smooth=0.5, eps=0.0, ignore_index=IGNORE)  # smp adds twice its smooth
    ours = dice(logits, *as_truth(Target(labels), channels))
    truth = labels.unsqueeze(1).double() if channels == 1 else labels
    same_value_and_gradient(logits, ours, theirs(logits, truth))


@pytest.mark.slow  # MONAI takes 12 s to import
@pytest.mark.parametrize("channels", [1, 4])
def test_dice_per_image_is_monais(channels: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # MONAI's imports warn about others
        monai = pytest.importorskip("monai.losses")
    logits, labels = make_logits(channels), make_labels(max(channels, 2), ignore=False)
    theirs = monai.DiceLoss(
        sigmoid=channels == 1, softmax=channels > 1, smooth_nr=0.5, smooth_dr=0.5, to_onehot_y=False
    )
    truth, valid = as_truth(Target(labels), channels)
    ours = dice(logits, truth, valid, per_image=True, eps=0.5)
    same_value_and_gradient(logits, ours, theirs(logits, truth.double()))


def test_dice_weighs_the_classes_and_0_leaves_one_out() -> None:
    logits, labels = make_logits(3), make_labels(3)
    truth, valid = as_truth(Target(labels), 3)
    share = logits.softmax(1)
    each = []
    for k in range(3):
        hits, areas = (valid * share * truth)[:, k].sum(), (valid * (share + truth))[:, k].sum()
        each.append(1 - (2 * hits + 1) / (areas + 1))
    ours = dice(logits, truth, valid, torch.tensor([0.0, 1.0, 3.0]))
    same_value_and_gradient(logits, ours, (each[1] + 3 * each[2]) / 4)


def test_dice_per_image_leaves_out_pictures_without_a_known_pixel() -> None:
    logits, labels = make_logits(2), make_labels(2)
    labels[1] = IGNORE
    two = logits[[0, 2]], *as_truth(Target(labels[[0, 2]]), 2)
    ours = dice(logits, *as_truth(Target(labels), 2), per_image=True)
    same_value_and_gradient(logits, ours, dice(*two, per_image=True))


def test_one_channel_of_dice_is_the_foreground_whatever_the_weights() -> None:
    logits, labels = make_logits(1), make_labels(2)
    truth = as_truth(Target(labels), 1)
    assert torch.equal(dice(logits, *truth, torch.tensor([5.0, 0.1])), dice(logits, *truth))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", [*NAMES, "dice(per_image=1)", "0.5*ce + bce + dice"])
def test_ignored_pixels_change_nothing(terms: str, channels: int) -> None:
    loss = make_loss(LossConfig(terms=terms), None)
    logits, target = make_logits(channels), Target(make_labels(max(channels, 2)))
    ignored = (target.labels == IGNORE).unsqueeze(1)
    changed = torch.where(ignored, make_logits(channels, seed=9) * 20, logits)
    assert torch.equal(loss(logits, target), loss(changed, target))
    (gradient,) = torch.autograd.grad(loss(logits, target), logits)
    assert not gradient[ignored.expand_as(gradient)].any()
    assert gradient[~ignored.expand_as(gradient)].all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", [*NAMES, "dice(per_image=1)"])
@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 1.0]])
def test_nothing_known_costs_nothing_and_keeps_its_graph(
    terms: str, channels: int, weights: list[float] | None
) -> None:
    given = None if weights is None else torch.tensor(weights[: max(channels, 2)])
    logits = make_logits(channels)
    loss = make_loss(LossConfig(terms=terms), given)(logits, Target(torch.full((B, H, W), IGNORE)))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_of_nothing_but_a_class_that_weighs_0_costs_nothing(channels: int) -> None:
    loss = make_loss(LossConfig(terms="ce"), torch.tensor([0.0, 1.0, 1.0][: max(channels, 2)]))
    logits = make_logits(channels)
    value = loss(logits, Target(torch.zeros(B, H, W, dtype=torch.long)))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_sums_run_in_float32_under_autocast(name: str, channels: int) -> None:
    labels = make_labels(max(channels, 2))
    half = make_logits(channels).detach().bfloat16()
    full = LOSSES[name](half.float(), *as_truth(Target(labels), channels))
    with torch.autocast("cpu", torch.bfloat16):
        ours = LOSSES[name](half, *as_truth(Target(labels), channels))
    assert ours.dtype == torch.float32
    assert torch.equal(ours, full)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_sure_and_wrong_stays_finite(name: str, channels: int) -> None:
    logits = torch.full((1, channels, 2, 2), -200.0)
    logits[:, -1] = 200.0
    logits.requires_grad_()
    loss = LOSSES[name](logits, *as_truth(Target(torch.zeros(1, 2, 2, dtype=torch.long)), channels))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_a_sum_is_the_sum_of_its_terms() -> None:
    logits, target = make_logits(3), Target(make_labels(3))
    truth, valid = as_truth(target, 3)
    weights = torch.tensor([0.5, 1.0, 1.5])
    ours = make_loss(LossConfig(terms="0.45*dice(per_image=1, eps=2) + ce"), weights)(logits, target)
    theirs = 0.45 * dice(logits, truth, valid, weights, per_image=True, eps=2.0) + ce(
        logits, truth, valid, weights
    )
    same_value_and_gradient(logits, ours, theirs)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ce", [Term(1, "ce", {})]),
        (" 0.5 * ce+dice ( per_image = 1 ) ", [Term(0.5, "ce", {}), Term(1, "dice", {"per_image": True})]),
        (
            "1e+1*bce + dice(eps=1e+2, per_image=0)",
            [Term(10, "bce", {}), Term(1, "dice", {"eps": 100, "per_image": False})],
        ),
    ],
)
def test_terms_are_read(text: str, terms: list[Term]) -> None:
    assert list(parse_terms(text)) == terms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no loss"),
        ("ce +", "no loss"),
        ("ce - dice", "no loss"),
        ("dice(per_image=1", "no loss"),
        ("dise + ce", "names 'dise'; did you mean dice"),
        ("-1*ce", "weight of ce is '-1'; write a number above 0"),
        ("nan*ce", "weight of ce is 'nan'"),
        ("dice(per_imag=1)", "no 'per_imag'; did you mean per_image"),
        ("ce(gamma=2)", "no 'gamma'; write it without"),
        ("dice(per_image=2)", "per_image of dice is '2'; write 0 or 1"),
        ("dice(eps=0)", "eps of dice is '0'"),
        ("dice(eps)", "eps of dice is ''"),
    ],
)
def test_terms_that_mean_nothing_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_loss(LossConfig(terms=text), None)


def test_balanced_weights_by_hand() -> None:
    """Shares 0.64, 0.32, 0.04 and 0: 1/0.8, 1/sqrt(0.32), 1/0.2, divided by their mean; 0 for the last."""
    weights = class_weights(LossConfig(class_weights="balanced"), np.array([64, 32, 4, 0]))
    raw = [1 / 0.8, 1 / math.sqrt(0.32), 1 / 0.2]
    assert weights is not None
    assert weights.tolist() == pytest.approx([3 * each / sum(raw) for each in raw] + [0])
    assert weights.dtype == torch.float32


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
