"""Edges of masks and their loss, against loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskwright.config import LossConfig
from maskwright.errors import ConfigError
from maskwright.losses import edge, edge_truth, edges, make_loss
from maskwright.tensors import IGNORE, Outputs, Target

Make = Callable[..., Tensor]


def looked_up(labels: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Every pixel and its neighbourhood, one by one."""
    found, known = torch.zeros(labels.shape), torch.zeros(labels.shape, dtype=torch.bool)
    pictures, height, width = labels.shape
    for b, y, x in itertools.product(range(pictures), range(height), range(width)):
        near = {
            int(labels[b, row, column])
            for row in range(max(0, y - radius), min(height, y + radius + 1))
            for column in range(max(0, x - radius), min(width, x + radius + 1))
        }
        known[b, y, x] = IGNORE not in near
        found[b, y, x] = len(near) > 1
    return found, known


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_edges_are_what_a_loop_finds(radius: int, kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(radius)
    labels = (
        torch.randint(0, 3, (4, 3, 4), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    )
    labels[torch.rand(labels.shape, generator=generator) < 0.01] = IGNORE
    found, known = edges(labels.to(kind), radius)
    expected, expected_known = looked_up(labels, radius)
    assert torch.equal(known[:, 0], expected_known)
    assert torch.equal(found[:, 0][expected_known], expected[expected_known])
    assert 0 < expected[expected_known].mean() < 1
    assert 0 < expected_known.float().mean() < 1


def test_a_boundary_is_a_band_of_twice_the_radius_and_the_frame_is_none() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).expand(1, 3, 8)
    assert edges(labels, 1)[0][0, 0, 1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert edges(labels, 3)[0][0, 0, 1].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def by_loop(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Xie & Tu's equation 2, pixel by pixel, and the sum of its weights."""
    known = [index for index in itertools.product(*map(range, truth.shape)) if valid[index]]
    beta = sum(1 - float(truth[index]) for index in known) / len(known)
    cost, weights = logits.new_zeros(()), 0.0
    for index in known:
        share = 1 / (1 + torch.exp(-logits[index]))
        on, off = beta * float(truth[index]), (1 - beta) * (1 - float(truth[index]))
        cost = cost - on * torch.log(share) - off * torch.log(1 - share)
        weights += on + off
    return cost / weights


@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_and_its_gradient_are_those_of_a_loop(
    mixed: bool, make_logits: Make, make_labels: Make, agree: Callable[..., None]
) -> None:
    labels = make_labels(2, ignore=False)
    labels[:, :, :3], labels[0, 2, 3] = 0, IGNORE
    target = Target(labels)
    if mixed:
        target = Target(labels, labels.flip(2), torch.tensor([0.25, 1.0, 0.6]))
    truth, valid = edge_truth(target, 1)
    assert 0 < truth[valid > 0].mean() < 1
    logits = make_logits(1)
    agree(logits, edge(logits, truth.double(), valid.double()), by_loop(logits, truth, valid))


def test_edges_and_the_rest_weigh_one_half_each(make_logits: Make) -> None:
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., 4] = 1
    logits = torch.where(truth > 0, 0.0, 2.0)
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert edge(logits, truth, torch.ones_like(truth)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0, 1, IGNORE])
def test_without_edges_it_costs_nothing_and_keeps_its_graph(value: int, make_logits: Make) -> None:
    logits = make_logits(1)
    loss = edge(logits, *edge_truth(Target(torch.full((3, 5, 6), value)), 1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def test_mixed_edges_are_those_of_both_masks_with_their_shares() -> None:
    straight, crossed = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    straight[:, :, 3:], crossed[:, 3:] = 1, 1
    truth, valid = edge_truth(Target(straight.long(), crossed.long(), torch.tensor([0.3])), 1)
    one, other = edges(straight, 1)[0], edges(crossed, 1)[0]
    torch.testing.assert_close(truth, 0.3 * one + 0.7 * other)
    assert valid.all()


def test_the_whole_loss_is_the_sum_of_its_parts(make_logits: Make, make_labels: Make) -> None:
    """Edge head first, then one channel per dense target, in the order in which the recipe names them."""
    config = LossConfig(
        terms="ce", edge=0.4, edge_radius=2, targets={"depth": "l1", "heat": "0.5*l2(ramp=1)"}
    )
    assert config.heads == ("edge", "depth", "heat")
    logits, answers, dense = make_logits(3), make_logits(3, seed=4), make_logits(2, seed=5).detach()
    labels = make_labels(3, ignore=False)
    labels[:, :3] = 0
    target = Target(labels, dense=dense)
    whole = make_loss(config, None, targets=("heat", "depth"))(Outputs(logits, answers), target, 0.5)
    plain = make_loss(LossConfig(terms="ce"), None)(logits, target)
    parts = [
        plain,
        0.4 * edge(answers[:, :1], *edge_truth(target, 2)),
        (answers[:, 1] - dense[:, 0]).abs().mean(),
        0.25 * (answers[:, 2] - dense[:, 1]).square().mean(),
    ]
    torch.testing.assert_close(whole, sum(parts[1:], parts[0]))
    assert len({part.item() for part in parts}) == 4


@pytest.mark.parametrize(
    ("targets", "known", "said"),
    [
        ({"depht": "l1"}, ("depth",), "loss.targets names 'depht'.*did you mean depth"),
        ({"depth": "l1"}, (), "the data have no targets.*dataset.yaml"),
        ({"depth": "0.5*l3"}, ("depth",), "loss.targets.depth='0.5\\*l3' names 'l3'"),
        ({"depth": "ce"}, ("depth",), "names 'ce'"),
        ({"depth": "huber(delta=0)"}, ("depth",), "delta of huber is '0'"),
        ({"depth": "0.5"}, ("depth",), "names '0'|no loss; write a sum such as '0.5\\*huber"),
    ],
)
def test_what_no_target_can_mean(targets: dict[str, str], known: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_loss(LossConfig(targets=targets), None, targets=known)
