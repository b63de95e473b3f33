"""Losses of dense targets against torch's, and what unknown pixels do: nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.losses import DENSE_LOSSES, huber

ORACLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "huber": F.huber_loss,
}
NAMES = pytest.mark.parametrize("name", DENSE_LOSSES)


def fields() -> tuple[Tensor, Tensor]:
    """Answer and truth, the latter not known everywhere."""
    generator = torch.Generator().manual_seed(0)
    answer, truth = 2 * torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = torch.nan
    return answer.requires_grad_(), truth


def test_there_is_an_oracle_for_each() -> None:
    assert ORACLES.keys() == DENSE_LOSSES.keys()


@NAMES
def test_value_and_gradient_are_torchs_over_the_known_pixels(name: str, agree: Callable[..., None]) -> None:
    answer, truth = fields()
    known = ~truth.isnan()
    agree(answer, DENSE_LOSSES[name](answer, truth), ORACLES[name](answer[known], truth[known]))


@pytest.mark.parametrize("delta", [0.3, 2.5])
def test_hubers_delta(delta: float, agree: Callable[..., None]) -> None:
    answer, truth = fields()
    known = ~truth.isnan()
    agree(answer, huber(answer, truth, delta=delta), F.huber_loss(answer[known], truth[known], delta=delta))


@NAMES
def test_nothing_known_costs_nothing_and_keeps_its_graph(name: str) -> None:
    answer, truth = fields()
    loss = DENSE_LOSSES[name](answer, torch.full_like(truth, torch.nan))
    (gradient,) = torch.autograd.grad(loss, answer)
    assert loss.item() == 0
    assert not gradient.any()


@NAMES
def test_low_precision_is_summed_in_float32(name: str) -> None:
    answer, truth = fields()
    loss = DENSE_LOSSES[name](answer.bfloat16(), truth.float())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(DENSE_LOSSES[name](answer, truth).item(), rel=0.02)
