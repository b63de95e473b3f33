"""What holds for every loss: ignored pixels, batches without truth, low precision, extreme logits, MixUp."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskwright.config import LossConfig
from maskwright.losses import LOSSES, make_loss
from maskwright.tensors import IGNORE, Target

Make = Callable[..., Tensor]

VARIANTS = (
    *LOSSES,
    "ce(smoothing=0.1)",
    "focal(gamma=0.5)",
    "dice(per_image=1)",
    "dice(background=0)",
    "focal_tversky(per_image=1)",
    "lovasz(per_image=1)",
    "ohem(threshold=0.3)",
    "0.5*ce + bce + dice",
)
SMOOTH = ("bce", "boundary", "ce", "dice", "focal", "focal_tversky", "iou", "tversky")
"""Every known pixel pulls at its logits."""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_ignored_pixels_change_nothing(
    terms: str, channels: int, make_logits: Make, make_labels: Make
) -> None:
    loss = make_loss(LossConfig(terms=terms), None)
    logits, target = make_logits(channels), Target(make_labels(max(channels, 2)))
    ignored = (target.labels == IGNORE).unsqueeze(1)
    changed = torch.where(ignored, make_logits(channels, seed=9) * 20, logits)
    assert torch.equal(loss(logits, target), loss(changed, target))
    (gradient,) = torch.autograd.grad(loss(logits, target), logits)
    assert not gradient[ignored.expand_as(gradient)].any()
    assert gradient.any()
    if terms in SMOOTH:
        assert gradient[~ignored.expand_as(gradient)].all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_nothing_known_costs_nothing_and_keeps_its_graph(
    terms: str, channels: int, make_logits: Make
) -> None:
    for weights in (None, torch.tensor([0.0, 1.0, 1.0][: max(channels, 2)])):
        logits = make_logits(channels)
        target = Target(torch.full((3, 5, 6), IGNORE))
        loss = make_loss(LossConfig(terms=terms), weights)(logits, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == 0
        assert not gradient.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", ["ce", "ce(smoothing=0.1)", "focal", "ohem", "boundary"])
def test_a_batch_of_nothing_but_a_class_that_weighs_0_costs_nothing(
    terms: str, channels: int, make_logits: Make
) -> None:
    loss = make_loss(LossConfig(terms=terms), torch.tensor([0.0, 1.0, 1.0][: max(channels, 2)]))
    logits = make_logits(channels)
    value = loss(logits, Target(torch.zeros(3, 5, 6, dtype=torch.long)))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_sums_run_in_float32_under_autocast(
    terms: str, channels: int, make_logits: Make, make_labels: Make
) -> None:
    loss, target = make_loss(LossConfig(terms=terms), None), Target(make_labels(max(channels, 2)))
    half = make_logits(channels).detach().bfloat16()
    full = loss(half.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        ours = loss(half, target)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, full)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_sure_and_wrong_or_right_stays_finite(terms: str, channels: int) -> None:
    logits = torch.full((1, channels, 4, 4), -200.0)
    logits[:, -1] = 200.0
    logits.requires_grad_()
    wrong, right = torch.zeros(2, 1, 4, 4, dtype=torch.long)
    right += max(channels, 2) - 1
    half = torch.where(torch.arange(4) < 2, wrong, right)
    for labels in (wrong, right, half):
        loss = make_loss(LossConfig(terms=terms), None)(logits, Target(labels))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_mixup_with_all_the_weight_on_one_truth_is_that_truth(
    terms: str, channels: int, make_logits: Make, make_labels: Make
) -> None:
    loss, classes = make_loss(LossConfig(terms=terms), None), max(channels, 2)
    logits, labels, others = make_logits(channels), make_labels(classes), make_labels(classes, seed=5)
    mixed = Target(labels, others, torch.ones(len(labels)))
    torch.testing.assert_close(loss(logits, mixed), loss(logits, Target(labels)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("terms", VARIANTS)
def test_mixup_gives_a_gradient_to_follow(
    terms: str, channels: int, make_logits: Make, make_labels: Make
) -> None:
    classes = max(channels, 2)
    target = Target(make_labels(classes), make_labels(classes, seed=5), torch.tensor([0.2, 0.5, 0.9]))
    logits = make_logits(channels)
    loss = make_loss(LossConfig(terms=terms), None)(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert gradient.any()
    assert make_loss(LossConfig(terms=terms), None)(logits - 1e-3 * gradient, target) < loss
