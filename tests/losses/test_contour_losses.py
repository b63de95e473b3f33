"""Contours and centre lines against loops over the pixels, MONAI and hand computations."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.losses import as_truth, boundary, boundary_band, cldice
from maskwright.losses.contour import signed_distances, soft_skeleton
from maskwright.tensors import IGNORE, Target

Make = Callable[..., Tensor]
Agree = Callable[..., None]


def shares_of(logits: Tensor) -> Tensor:
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def distances_by_loops(labels: Tensor, k: int) -> Tensor:
    """Signed distance of each known pixel to class k of its picture, in pixels; 0 where it is not known."""
    phi = torch.zeros(labels.shape, dtype=torch.float64)
    for b in range(len(labels)):
        pixels = [
            (i, j, int(labels[b, i, j]) == k)
            for i, j in product(*map(range, labels.shape[1:]))
            if labels[b, i, j] != IGNORE
        ]
        for i, j, inside in pixels:
            to_others = [math.dist((i, j), (y, x)) for y, x, other in pixels if other != inside]
            if to_others:
                phi[b, i, j] = (min(to_others) - 0.5) * (-1 if inside else 1)
    return phi


@pytest.mark.parametrize("channels", [1, 3])
def test_distances_are_those_of_the_loops(channels: int, make_labels: Make) -> None:
    """Picture 1 lacks a class, picture 2 is filled by one."""
    labels = make_labels(max(channels, 2))
    labels[1][labels[1] == max(channels, 2) - 1] = 0
    labels[2][labels[2] != IGNORE] = 1
    truth, valid = as_truth(Target(labels), channels)
    classes = [1] if channels == 1 else list(range(channels))
    loops = torch.stack([distances_by_loops(labels, k) for k in classes], dim=1)
    ours = valid * signed_distances(truth, valid) * math.hypot(*labels.shape[1:])
    torch.testing.assert_close(ours.double(), loops, rtol=1e-6, atol=1e-6)


def test_of_two_classes_one_distance_is_the_negative_of_the_other(make_labels: Make) -> None:
    phi = signed_distances(*as_truth(Target(make_labels(2, ignore=False)), 2))
    assert torch.equal(phi[:, 0], -phi[:, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_boundary_is_the_mean_of_weighted_shares_times_distances(
    channels: int, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    truth, valid = as_truth(Target(labels), channels)
    phi, weights = signed_distances(truth, valid), [0.5, 1.0, 3.0] if channels == 3 else [1.0]
    theirs = sum(
        (weight * (shares_of(logits)[:, k] * phi[:, k])[labels != IGNORE].mean())
        for k, weight in enumerate(weights)
    )
    ours = boundary(logits, truth, valid, torch.tensor([0.5, 1.0, 3.0][: max(channels, 2)]))
    agree(logits, ours, theirs)


def test_boundary_by_hand() -> None:
    """Truth 0 0 1 1 in a row: distances 1.5, 0.5, -0.5, -1.5 pixels of a diagonal of sqrt(17)."""
    given = as_truth(Target(torch.tensor([[[0, 0, 1, 1]]])), 1)
    right, wrong = torch.tensor([[[[-80.0, -80, 80, 80]]]]), torch.tensor([[[[80.0, 80, -80, -80]]]])
    assert boundary(right, *given).item() == pytest.approx(-2 / 4 / math.sqrt(17))
    assert boundary(wrong, *given).item() == pytest.approx(2 / 4 / math.sqrt(17))


def test_boundary_costs_the_same_at_every_size() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1, 0]] * 4])
    logits = torch.linspace(-1, 2, 6).expand(1, 1, 4, 6)
    small = boundary(logits, *as_truth(Target(labels), 1))
    labels, logits = (F.interpolate(each.float(), scale_factor=3) for each in (labels.unsqueeze(0), logits))
    large = boundary(logits, *as_truth(Target(labels.squeeze(0).long()), 1))
    assert large.item() == pytest.approx(small.item(), rel=1e-5)


def band_by_loops(logits: Tensor, labels: Tensor, weights: dict[int, float], radius: int) -> Tensor:
    cost, mass = torch.zeros((), dtype=torch.float64), 0.0
    shares = shares_of(logits)
    for b, i, j in product(*map(range, labels.shape)):
        around = labels[b, max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]
        known = [int(label) for label in around.flatten() if label != IGNORE]
        own = int(labels[b, i, j])
        for channel, (k, weight) in enumerate(weights.items()):
            share = shares[b, channel, i, j]
            if own == k and any(label != k for label in known):
                cost, mass = cost + weight * (1 - share), mass + weight
            elif own not in (k, IGNORE) and k in known:
                cost, mass = cost + weight * share, mass + weight
    return cost / mass


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("radius", [1, 2])
def test_the_band_is_that_of_the_loops(channels: int, radius: int, make_logits: Make, agree: Agree) -> None:
    """Truth in stripes, some pixels ignored: beyond the radius nothing counts."""
    logits, labels = make_logits(channels), torch.zeros(3, 5, 6, dtype=torch.long)
    labels[0, :, 4:] = 1
    labels[1, 3:, 3:] = channels - 1
    labels[:, 2, 3] = labels[:, 4, 4:] = IGNORE
    weights = {1: 1.0} if channels == 1 else {0: 0.5, 1: 1.0, 2: 3.0}
    theirs = band_by_loops(logits, labels, weights, radius)
    given = *as_truth(Target(labels), channels), torch.tensor([0.5, 1.0, 3.0][: max(channels, 2)])
    ours = boundary_band(logits, *given, radius=radius)
    agree(logits, ours, theirs)
    assert not torch.autograd.grad(boundary_band(logits, *given), logits)[0][2].any()  # no contour there


@pytest.mark.parametrize("channels", [1, 3])
def test_the_band_punishes_what_is_wrong(channels: int, make_labels: Make) -> None:
    given = as_truth(Target(make_labels(max(channels, 2))), channels)
    right = 400 * given[0] - 200
    assert boundary_band(right, *given).item() == 0
    if channels == 1:
        assert boundary_band(-right, *given).item() == 1


def shifted(shares: Tensor, steps: list[tuple[int, int]], outside: float) -> Tensor:
    """The picture as seen from each pixel, one step away in each of the directions."""
    rows, columns = shares.shape[-2:]
    wide = F.pad(shares, (1, 1, 1, 1), value=outside)
    return torch.stack([wide[..., 1 + y : 1 + y + rows, 1 + x : 1 + x + columns] for y, x in steps])


def skeleton_by_definition(shares: Tensor, iterations: int) -> Tensor:
    """Algorithm 1 of Shit et al. 2021 line by line, as minima and maxima over shifted pictures."""
    cross = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    square = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]

    def least(x: Tensor) -> Tensor:
        return shifted(x, cross, math.inf).amin(0)

    def opened(x: Tensor) -> Tensor:
        return shifted(least(x), square, -math.inf).amax(0)

    skeleton = F.relu(shares - opened(shares))
    for _ in range(iterations):
        shares = least(shares)
        skeleton = skeleton + (1 - skeleton) * F.relu(shares - opened(shares))
    return skeleton


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_soft_skeleton_is_that_of_the_paper(iterations: int, make_logits: Make, agree: Agree) -> None:
    logits = make_logits(2)
    pattern = torch.arange(logits.numel()).view(logits.shape).double().cos()
    ours = (pattern * soft_skeleton(logits.sigmoid(), iterations)).sum()
    theirs = (pattern * skeleton_by_definition(logits.sigmoid(), iterations)).sum()
    agree(logits, ours, theirs)


def test_the_skeleton_of_a_bar_is_its_middle_line() -> None:
    bar = torch.zeros(1, 1, 7, 12)
    bar[..., 2:5, 1:11] = 1
    skeleton = soft_skeleton(bar, 2)
    assert skeleton[0, 0, 3, 2:10].tolist() == [1] * 8
    assert not skeleton[0, 0, [0, 1, 5, 6]].any()
    assert not skeleton[0, 0, [2, 4], 3:9].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_cldice_is_its_formula_over_the_foreground(
    channels: int, make_logits: Make, make_labels: Make, agree: Agree
) -> None:
    logits, labels = make_logits(channels), make_labels(max(channels, 2))
    truth, valid = as_truth(Target(labels), channels)
    shares, truth = valid * shares_of(logits), (valid * truth).double()
    each = []
    for k in [0] if channels == 1 else [1, 2]:
        line, true_line = (skeleton_by_definition(x[:, k : k + 1], 2)[:, 0] for x in (shares, truth))
        precision = ((line * truth[:, k]).sum() + 0.5) / (line.sum() + 0.5)
        sensitivity = ((true_line * shares[:, k]).sum() + 0.5) / (true_line.sum() + 0.5)
        each.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    theirs = each[0] if channels == 1 else (each[0] + 3 * each[1]) / 4
    weights = torch.tensor([9.0, 1.0, 3.0][: max(channels, 2)])
    ours = cldice(logits, *as_truth(Target(labels), channels), weights, iterations=2, eps=0.5)
    agree(logits, ours, theirs)


@pytest.mark.slow  # MONAI takes 12 s to import
def test_cldice_is_monais(make_logits: Make, make_labels: Make, agree: Agree) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # MONAI's imports warn about others
        monai: Any = pytest.importorskip("monai.losses")
    logits, labels = make_logits(1), make_labels(2, ignore=False)
    truth, valid = as_truth(Target(labels), 1)
    theirs = monai.SoftclDiceLoss(iter_=3, smooth=1e-15, sigmoid=True)  # sums over one picture
    ours = torch.stack(
        [cldice(logits[b : b + 1], truth[b : b + 1], valid[b : b + 1], iterations=3) for b in range(3)]
    )
    agree(logits, ours.mean(), theirs(logits, truth.double()))
