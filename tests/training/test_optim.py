"""Schedules by hand computation and against torch; the average against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from maskwright.config import OptimConfig
from maskwright.training.optim import average, learning_rate, make_optimiser


def test_cosine_by_hand() -> None:
    config = OptimConfig(schedule="cosine", learning_rate=0.8, warmup=0.2)
    assert learning_rate(config, 0.1) == pytest.approx(0.4)
    assert learning_rate(config, 0.2) == pytest.approx(0.8)
    assert learning_rate(config, 0.6) == pytest.approx(0.4)
    assert learning_rate(config, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_poly_and_plateau_by_hand() -> None:
    assert learning_rate(OptimConfig(schedule="poly", learning_rate=1.0, warmup=0), 0.75) == pytest.approx(
        0.25**0.9
    )
    plateau = OptimConfig(schedule="plateau", learning_rate=1.0, warmup=0, plateau_factor=0.5)
    assert learning_rate(plateau, 0.9, drops=3) == pytest.approx(0.125)
    assert learning_rate(OptimConfig(schedule="constant", learning_rate=0.3, warmup=0), 0.99) == 0.3


def test_onecycle_is_torchs() -> None:
    """Oracle: torch's OneCycleLR with its defaults, at every step of a run."""
    steps = 200
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    # Their last step lies at the very end; ours is asked at step / steps, so their run is one step longer.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=0.1, total_steps=steps + 1, final_div_factor=1e4 / 25, cycle_momentum=False
    )
    config = OptimConfig(schedule="onecycle", learning_rate=0.1, warmup=0.0)
    for step in range(steps):
        assert learning_rate(config, step / steps) == pytest.approx(
            theirs.get_last_lr()[0], rel=0.06, abs=2e-4
        )
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine", "poly", "onecycle"])
def test_rates_never_exceed_the_peak_and_never_vanish_at_the_start(schedule: str) -> None:
    config = OptimConfig.model_validate({"schedule": schedule, "learning_rate": 0.01, "warmup": 0.1})
    rates = [learning_rate(config, step / 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert all(0 < rate <= 0.01 + 1e-12 for rate in rates)


def test_weight_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    optimiser = make_optimiser(model, OptimConfig(weight_decay=0.1))
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(model[0].weight)}


def test_average_is_the_closed_form() -> None:
    """Late in a run d is constant: a_n = d^n a_0 + (1 - d^n) w for weights that stand still."""
    model, averaged = nn.Linear(2, 2), nn.Linear(2, 2)
    start = averaged.weight.detach().clone()
    for step in range(10_000, 10_020):
        average(averaged, model, 0.9, step)
    expected = 0.9**20 * start + (1 - 0.9**20) * model.weight
    torch.testing.assert_close(averaged.weight, expected)


def test_average_is_young_at_the_start() -> None:
    model, averaged = nn.Linear(2, 2), nn.Linear(2, 2)
    start = averaged.weight.detach().clone()
    average(averaged, model, 0.999, step=0)
    torch.testing.assert_close(averaged.weight, 0.1 * start + 0.9 * model.weight)


def test_average_copies_counters_and_averages_running_statistics() -> None:
    model, averaged = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    model(torch.full((4, 1, 2, 2), 10.0))
    average(averaged, model, 0.5, step=10_000)
    assert averaged.num_batches_tracked is not None
    assert int(averaged.num_batches_tracked) == 1
    assert averaged.running_mean is not None
    assert math.isclose(float(averaged.running_mean), 0.5, rel_tol=1e-6)  # half of 0.1 * 10
