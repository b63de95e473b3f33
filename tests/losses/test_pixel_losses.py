"""Cross-entropies against torch, smp and loops over the pixels, in float64 with their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.losses import as_truth, bce, ce, focal, ohem
from maskwright.tensors import IGNORE, Target

Make = Callable[..., Tensor]
Agree = Callable[..., None]


def pair(logits: Tensor) -> Tensor:
    """The logit of class 1 against class 0 is the pair (0, z)."""
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)


@pytest.mark.parametrize("loss", [bce, ce])
def test_one_channel_is_torchs_bce_over_the_known_pixels(
    loss: Callable[..., Tensor], make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(1), make_labels(2)
    known = labels != IGNORE
    theirs = F.binary_cross_entropy_with_logits(logits[:, 0][known], labels[known].double())
    agree(logits, loss(logits, *as_truth(Target(labels), 1)), theirs)


def test_bce_of_more_channels_tells_each_class_from_the_rest(
    make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(4), make_labels(4)
    known = labels != IGNORE
    one_hot = F.one_hot(labels[known], 4).double()
    theirs = F.binary_cross_entropy_with_logits(logits.permute(0, 2, 3, 1)[known], one_hot)
    agree(logits, bce(logits, *as_truth(Target(labels), 4)), theirs)


def test_bce_of_more_channels_weighs_the_classes(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, labels, weights = make_logits(3), make_labels(3), torch.tensor([0.0, 1.0, 3.0])
    truth, valid = as_truth(Target(labels), 3)
    one, two = (bce(logits[:, k : k + 1], truth[:, k : k + 1], valid) for k in (1, 2))
    agree(logits, bce(logits, truth, valid, weights), (one + 3 * two) / 4)


@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 1.0, 2.5]])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_ce_is_torchs_with_ignore_weights_and_smoothing(
    weights: list[float] | None, smoothing: float, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(4), make_labels(4)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    theirs = F.cross_entropy(logits, labels, weight=weight, ignore_index=IGNORE, label_smoothing=smoothing)
    ours = ce(logits, *as_truth(Target(labels), 4), weight, smoothing=smoothing)
    agree(logits, ours, theirs)


@pytest.mark.parametrize("weights", [None, [0.3, 2.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_channel_of_ce_is_torchs_on_two(
    weights: list[float] | None, smoothing: float, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(1), make_labels(2)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    theirs = F.cross_entropy(
        pair(logits), labels, weight=weight, ignore_index=IGNORE, label_smoothing=smoothing
    )
    ours = ce(logits, *as_truth(Target(labels), 1), weight, smoothing=smoothing)
    agree(logits, ours, theirs)


@pytest.mark.parametrize("channels", [1, 4])
def test_mixup_is_the_weighted_sum_of_both_cross_entropies(
    channels: int, make_logits: Make, make_labels: Make
) -> None:
    classes = max(channels, 2)
    logits = make_logits(channels)
    labels, others = make_labels(classes, 1, ignore=False), make_labels(classes, 2, ignore=False)
    weight = torch.tensor([0.2, 0.7, 1.0], dtype=torch.float64)
    ours = ce(logits, *as_truth(Target(labels, others, weight.float()), channels))
    per_pixel = [F.cross_entropy(pair(logits), truth, reduction="none") for truth in (labels, others)]
    share = weight.view(-1, 1, 1)
    theirs = (share * per_pixel[0] + (1 - share) * per_pixel[1]).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # the shares are float32


@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_one_channel_of_focal_is_smps(
    gamma: float, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, labels = make_logits(1), make_labels(2)
    theirs = smp.FocalLoss("binary", gamma=gamma, ignore_index=IGNORE)(logits, labels.unsqueeze(1).double())
    agree(logits, focal(logits, *as_truth(Target(labels), 1), gamma=gamma), theirs)


def test_more_channels_of_focal_are_smps_softmax_form(
    make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch.losses._functional")
    logits, labels = make_logits(4), make_labels(4)
    known = labels != IGNORE
    theirs = smp.softmax_focal_loss_with_logits(logits.permute(0, 2, 3, 1)[known], labels[known], gamma=1.5)
    agree(logits, focal(logits, *as_truth(Target(labels), 4), gamma=1.5), theirs)


@pytest.mark.parametrize("channels", [1, 3])
def test_focal_weighs_the_pixels_by_class(
    channels: int, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    weights = torch.tensor([0.5, 1.0, 3.0][: max(channels, 2)])
    known = labels != IGNORE
    share = pair(logits).softmax(1).permute(0, 2, 3, 1)[known]  # N K
    right, weight = share.gather(1, labels[known].unsqueeze(1)).squeeze(1), weights[labels[known]].double()
    theirs = (weight * (1 - right) ** 2 * -right.log()).sum() / weight.sum()
    agree(logits, focal(logits, *as_truth(Target(labels), channels), weights), theirs)


@pytest.mark.parametrize("channels", [1, 3])
def test_focal_without_gamma_is_ce(channels: int, make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    given = *as_truth(Target(labels), channels), torch.tensor([0.5, 1.0, 3.0][: max(channels, 2)])
    agree(logits, focal(logits, *given, gamma=0), ce(logits, *given))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_gamma_stays_finite_where_all_is_right(channels: int) -> None:
    """The derivative of (1 - P)^gamma is infinite at P = 1."""
    logits = torch.full((1, channels, 2, 2), -200.0)
    logits[:, -1] = 200.0
    logits.requires_grad_()
    labels = torch.full((1, 2, 2), max(channels - 1, 1))
    loss = focal(logits, *as_truth(Target(labels), channels), gamma=0.01)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def hardest_by_loops(
    logits: Tensor, labels: Tensor, weights: list[float], threshold: float, share: float
) -> Tensor:
    pixels = []
    for b, i, j in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        k = int(labels[b, i, j])
        if k != IGNORE and weights[k] > 0:
            right = pair(logits)[b, :, i, j].softmax(0)[k]
            pixels.append((right.item(), weights[k], -right.log()))
    pixels.sort(key=lambda pixel: pixel[0])
    least = math.ceil(share * len(pixels))
    kept = [pixel for rank, pixel in enumerate(pixels) if rank < least or pixel[0] < threshold]
    total = torch.stack([weight * cost for _, weight, cost in kept]).sum()
    return total / sum(weight for _, weight, _ in kept)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("threshold", "share"), [(0.4, 0.0), (0.01, 0.25), (0.7, 1 / 16), (0.0, 0.5)])
def test_ohem_is_the_loop_over_the_hardest(
    channels: int, threshold: float, share: float, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    weights = [0.0, 1.0, 2.5] if channels == 3 else [0.5, 2.0]
    theirs = hardest_by_loops(logits, labels, weights, threshold, share)
    given = *as_truth(Target(labels), channels), torch.tensor(weights)
    agree(logits, ohem(logits, *given, threshold=threshold, share=share), theirs)


@pytest.mark.parametrize("channels", [1, 3])
def test_ohem_of_all_pixels_is_ce(channels: int, make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    given = as_truth(Target(labels), channels)
    agree(logits, ohem(logits, *given, share=1.0), ce(logits, *given))


def test_ohem_keeps_one_pixel_where_none_is_hard() -> None:
    logits = torch.tensor([[[[5.0, 3.0, 7.0, 9.0]]]], dtype=torch.float64, requires_grad=True)
    loss = ohem(logits, *as_truth(Target(torch.ones(1, 1, 4, dtype=torch.long)), 1), share=0.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-3)))
    assert gradient.flatten().nonzero().flatten().tolist() == [1]
