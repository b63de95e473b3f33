"""Overlaps against smp, MONAI and the definition of the Lovasz extension, in float64 with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.losses import as_truth, dice, focal_tversky, iou, lovasz, tversky
from maskwright.tensors import IGNORE, Target

Make = Callable[..., Tensor]
Agree = Callable[..., None]


@pytest.fixture
def smp() -> Any:
    return pytest.importorskip("segmentation_models_pytorch.losses")


@pytest.fixture(scope="module")
def monai() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # MONAI's imports warn about others
        return pytest.importorskip("monai.losses")


def smps_truth(labels: Tensor, channels: int) -> tuple[str, Tensor]:
    return ("binary", labels.unsqueeze(1).double()) if channels == 1 else ("multiclass", labels)


def test_dice_by_hand() -> None:
    """Probabilities 1, 1/2, 0 and truth 1, 1, 0; the fourth pixel is ignored: hits 1.5, areas 1.5 + 2."""
    logits = torch.tensor([[[[80.0, 0.0, -80.0, 5.0]]]])
    given = as_truth(Target(torch.tensor([[[1, 1, 0, IGNORE]]])), 1)
    assert dice(logits, *given).item() == pytest.approx(1 - (3 + 1) / (3.5 + 1))
    assert dice(logits, *given, eps=1e-6).item() == pytest.approx(1 - 3 / 3.5, abs=1e-5)


def test_iou_and_tversky_by_hand() -> None:
    """Probabilities 1, 1/2, 1/2 and truth 1, 1, 0: hits 1.5, half a pixel too much, half a pixel missed."""
    logits = torch.tensor([[[[80.0, 0.0, 0.0]]]])
    given = as_truth(Target(torch.tensor([[[1, 1, 0]]])), 1)
    assert iou(logits, *given).item() == pytest.approx(1 - (1.5 + 1) / (2.5 + 1))
    index = (1.5 + 1) / (1.5 + 0.1 * 0.5 + 0.8 * 0.5 + 1)
    assert tversky(logits, *given, alpha=0.1, beta=0.8).item() == pytest.approx(1 - index)
    ours = focal_tversky(logits, *given, alpha=0.1, beta=0.8, gamma=2.0).item()
    assert ours == pytest.approx((1 - index) ** 0.5)


@pytest.mark.parametrize("channels", [1, 4])
def test_sums_over_the_batch_are_smps(
    channels: int, smp: Any, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    given, (mode, truth) = as_truth(Target(labels), channels), smps_truth(labels, channels)
    theirs = smp.DiceLoss(mode, smooth=0.5, eps=0.0, ignore_index=IGNORE)(logits, truth)  # adds it twice
    agree(logits, dice(logits, *given), theirs)
    theirs = smp.JaccardLoss(mode, smooth=0.7, eps=0.0, ignore_index=IGNORE)(logits, truth)
    agree(logits, iou(logits, *given, eps=0.7), theirs)
    theirs = smp.TverskyLoss(mode, smooth=0.7, eps=0.0, ignore_index=IGNORE, alpha=0.2, beta=0.9)(
        logits, truth
    )
    agree(logits, tversky(logits, *given, alpha=0.2, beta=0.9, eps=0.7), theirs)


def test_one_channel_of_focal_tversky_is_smps(
    smp: Any, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(1), make_labels(2)
    _, truth = smps_truth(labels, 1)
    theirs = smp.TverskyLoss(
        "binary", smooth=1.0, eps=0.0, ignore_index=IGNORE, alpha=0.3, beta=0.7, gamma=3 / 4
    )
    agree(logits, focal_tversky(logits, *as_truth(Target(labels), 1)), theirs(logits, truth))


def test_focal_tversky_takes_the_power_of_each_class(
    make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, given, weights = make_logits(3), as_truth(Target(make_labels(3)), 3), [0.0, 1.0, 3.0]
    each = [tversky(logits, *given, torch.eye(3)[k]) ** 0.4 for k in range(3)]
    ours = focal_tversky(logits, *given, torch.tensor(weights), gamma=2.5)
    agree(logits, ours, (each[1] + 3 * each[2]) / 4)


@pytest.mark.slow  # MONAI takes 12 s to import
@pytest.mark.parametrize("channels", [1, 4])
def test_sums_over_each_picture_are_monais(
    channels: int, monai: Any, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2), ignore=False)
    truth, valid = as_truth(Target(labels), channels)
    outputs = {"sigmoid": channels == 1, "softmax": channels > 1}
    theirs = monai.DiceLoss(**outputs, smooth_nr=0.5, smooth_dr=0.5)(logits, truth.double())
    agree(logits, dice(logits, truth, valid, per_image=True, eps=0.5), theirs)
    theirs = monai.DiceLoss(**outputs, jaccard=True, smooth_nr=1, smooth_dr=1)(logits, truth.double())
    agree(logits, iou(logits, truth, valid, per_image=True, eps=0.5), theirs)
    theirs = monai.TverskyLoss(**outputs, alpha=0.2, beta=0.9, smooth_nr=0.5, smooth_dr=0.5)
    ours = tversky(logits, truth, valid, alpha=0.2, beta=0.9, per_image=True, eps=0.5)
    agree(logits, ours, theirs(logits, truth.double()))


@pytest.mark.parametrize("loss", [dice, iou, tversky, focal_tversky])
def test_classes_are_weighed_and_0_leaves_one_out(
    loss: Callable[..., Tensor], make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, given = make_logits(3), as_truth(Target(make_labels(3)), 3)
    each = [loss(logits, *given, torch.eye(3)[k]) for k in range(3)]
    assert len({cost.item() for cost in each}) == 3
    agree(logits, loss(logits, *given, torch.tensor([0.0, 1.0, 3.0])), (each[1] + 3 * each[2]) / 4)
    agree(logits, loss(logits, *given, background=False), (each[1] + each[2]) / 2)
    given_weights = *given, torch.tensor([2.0, 1.0, 3.0])
    agree(logits, loss(logits, *given_weights, background=False), (each[1] + 3 * each[2]) / 4)


def test_dice_of_one_class_by_its_formula(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    logits, (truth, valid) = make_logits(3), as_truth(Target(make_labels(3)), 3)
    share = logits.softmax(1)
    hits, areas = (valid * share * truth)[:, 2].sum(), (valid * (share + truth))[:, 2].sum()
    ours = dice(logits, truth, valid, torch.tensor([0.0, 0.0, 2.0]))
    agree(logits, ours, 1 - (2 * hits + 1) / (areas + 1))


@pytest.mark.parametrize("loss", [dice, iou, tversky, focal_tversky, lovasz])
@pytest.mark.parametrize("channels", [1, 2])
def test_pictures_without_a_known_pixel_are_left_out(
    loss: Callable[..., Tensor], channels: int, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(2)
    labels[1] = IGNORE
    two = logits[[0, 2]], *as_truth(Target(labels[[0, 2]]), channels)
    ours = loss(logits, *as_truth(Target(labels), channels), per_image=True)
    agree(logits, ours, loss(*two, per_image=True))


@pytest.mark.parametrize("loss", [dice, iou, tversky, focal_tversky, lovasz])
def test_one_channel_is_the_foreground_whatever_the_weights(
    loss: Callable[..., Tensor], make_logits: Make, make_labels: Make
) -> None:
    logits, given = make_logits(1), as_truth(Target(make_labels(2)), 1)
    assert torch.equal(loss(logits, *given, torch.tensor([5.0, 0.1])), loss(logits, *given))


@pytest.mark.parametrize("channels", [1, 3])
def test_focal_tversky_of_what_is_right_costs_nothing(channels: int) -> None:
    """All is right in both classes of the truth; the formula's derivative is infinite there."""
    labels = torch.tensor([[[0, 0, 1, 1]]])
    shares, _ = as_truth(Target(labels), channels)
    logits = (400 * shares - 200).requires_grad_()
    loss = focal_tversky(logits, *as_truth(Target(labels), channels))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def jaccard_of_errors(wrong: set[int], members: set[int]) -> float:
    """1 - IoU of class `members` when the pixels `wrong` alone are mistaken (Berman et al. 2018)."""
    return len(wrong) / len(wrong | members) if wrong | members else 0.0


def lovasz_extension(errors: Tensor, members: set[int]) -> Tensor:
    order = sorted(range(len(errors)), key=lambda i: -errors[i].item())
    values = [jaccard_of_errors(set(order[:n]), members) for n in range(len(errors) + 1)]
    steps = [after - before for before, after in pairwise(values)]
    return torch.stack([errors[i].clamp(min=0) * step for i, step in zip(order, steps, strict=True)]).sum()


def lovasz_by_definition(logits: Tensor, labels: Tensor, weights: list[float]) -> Tensor:
    """Of the pictures given, taken as one."""
    known = labels != IGNORE
    z, truth = logits.permute(0, 2, 3, 1)[known], labels[known]  # N C, N
    if logits.shape[1] == 1:
        members = set(truth.nonzero().flatten().tolist())
        return lovasz_extension(1 - z[:, 0] * (2 * truth - 1), members)
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for k in sorted(set(truth.tolist())):
        members = set((truth == k).nonzero().flatten().tolist())
        total = total + weights[k] * lovasz_extension(
            ((truth == k).double() - z.softmax(1)[:, k]).abs(), members
        )
        mass += weights[k]
    return total / mass


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_the_extension_of_the_jaccard_loss(
    channels: int, per_image: bool, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    """A picture lacks class 1, so per picture the means run over different numbers of classes."""
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    labels[0][labels[0] == 1] = 0
    weights = [0.5, 1.0, 3.0]
    parts = [slice(b, b + 1) for b in range(len(labels))] if per_image else [slice(None)]
    theirs = torch.stack([lovasz_by_definition(logits[part], labels[part], weights) for part in parts]).mean()
    given = *as_truth(Target(labels), channels), torch.tensor(weights[: max(channels, 2)])
    agree(logits, lovasz(logits, *given, per_image=per_image), theirs)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_smps(
    channels: int, per_image: bool, smp: Any, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits = make_logits(channels).detach().float().requires_grad_()  # smp's sums are in float32
    labels = make_labels(max(channels, 2))
    theirs = smp.LovaszLoss(
        "binary" if channels == 1 else "multiclass", per_image=per_image, ignore_index=IGNORE
    )
    ours = lovasz(logits, *as_truth(Target(labels), channels), per_image=per_image)
    agree(logits, ours, theirs(logits, labels), tolerance=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_lovasz_takes_the_larger_share_of_a_mixed_truth(
    channels: int, make_logits: Make, make_labels: Make
) -> None:
    logits, classes = make_logits(channels), max(channels, 2)
    labels, others = make_labels(classes, 1, ignore=False), make_labels(classes, 2, ignore=False)
    mixed = as_truth(Target(labels, others, torch.full((len(labels),), 0.7)), channels)
    assert torch.equal(lovasz(logits, *mixed), lovasz(logits, *as_truth(Target(labels), channels)))
