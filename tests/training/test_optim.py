"""Schedules by hand computation and against torch; the average against its closed form; rates of encoder stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.config import OptimConfig, make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare
from maskwright.errors import ConfigError
from maskwright.models.resnet34_unet import BasicBlock
from maskwright.training.begin import assemble
from maskwright.training.checkpoint import load_state, save_state
from maskwright.training.device import make_accelerator
from maskwright.training.optim import average, learning_rate, make_optimiser, rate_factors
from maskwright.training.step import Counters, Machinery, TrainState, train_step


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


def test_factors_by_hand() -> None:
    """Names of a ResNet, of a Transformer and of an encoder inside a wrapper; a head or an inner encoder is neither."""
    config = OptimConfig(encoder_rate=0.5, layer_decay=0.1)
    names = ["conv1", "layer1.0.bn1", "layer2.3.conv1", "layer4.1.conv2"]  # three stages
    resnet = {
        f"encoder.{name}.weight": value for name, value in zip(names, [0.005, 0.005, 0.05, 0.5], strict=True)
    }
    others = {"head.weight": 1.0, "bottleneck.0.encoder.layer1.weight": 1.0}
    assert rate_factors([*resnet, *others], config) == pytest.approx(resnet | others)
    vit = {
        "encoder.pos_embed": 0.005,
        "encoder.blocks.0.norm1.bias": 0.005,
        "encoder.blocks.7.attn.qkv.weight": 0.05,
    }
    vit |= {"encoder.blocks.11.mlp.fc1.weight": 0.5}
    assert rate_factors(list(vit), config) == pytest.approx(vit)
    wrapped = {"network.encoder.stages.1.weight": 0.05, "network.encoder.stages.2.weight": 0.5}
    assert rate_factors([*wrapped, "network.decoder.3.weight"], config) == pytest.approx(
        wrapped | {"network.decoder.3.weight": 1.0}
    )


def test_usual_rates_are_the_groups_of_earlier_saves() -> None:
    """A state saved before there were factors counts parameters in this order."""
    model = Staged()
    groups = make_optimiser(model, OptimConfig()).param_groups
    every = list(model.parameters())
    expected = [[p for p in every if p.ndim > 1], [p for p in every if p.ndim <= 1]]
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(p) for p in some] for some in expected
    ]
    assert [group["factor"] for group in groups] == [1.0, 1.0]


def test_slow_stages_keep_the_rule_about_weight_decay() -> None:
    model = Staged()
    optimiser = make_optimiser(model, OptimConfig(weight_decay=0.1, encoder_rate=0.5, layer_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decay == {id(p): 0.1 if p.ndim > 1 else 0.0 for p in model.parameters()}


def test_a_model_without_an_encoder_has_nothing_to_slow_down() -> None:
    for changes in ({"encoder_rate": 0.1}, {"layer_decay": 0.7}):
        with pytest.raises(ConfigError, match="which this model does not have; leave both at 1"):
            make_optimiser(nn.Conv2d(1, 1, 1), OptimConfig.model_validate(changes))


class Staged(nn.Module):
    """Names as in a ResNet under a head."""

    def __init__(self) -> None:
        super().__init__()
        stages = {
            "conv1": nn.Conv2d(3, 4, 1),
            "layer1": nn.Conv2d(4, 4, 3, padding=1),
            "layer2": nn.Conv2d(4, 4, 1),
        }
        self.encoder = nn.ModuleDict(stages)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.encoder.values():
            images = torch.tanh(stage(images))
        return self.head(images)  # type: ignore[no-any-return]


STAGED = {
    "optim.learning_rate": 0.1,
    "optim.schedule": "constant",
    "optim.warmup": 0,
    "optim.clip": 0,
    "optim.encoder_rate": 0.5,
    "optim.layer_decay": 0.5,
    "input.size": 16,
    "train.precision": "fp32",
}
SHARES = {"encoder.conv1": 0.25, "encoder.layer1": 0.25, "encoder.layer2": 0.5, "head": 1.0}


def begin(
    discs: Path, changes: dict[str, object], network: Callable[[], nn.Module] = Staged
) -> tuple[TrainState, Machinery]:
    """A state of `network` with weights from a seed, and real pictures."""
    recipe, dataset = make_recipe(STAGED | changes), open_dataset(discs)
    store = prepare(dataset, recipe.input, workers=1)
    machinery, _ = assemble(recipe, dataset, store, make_accelerator("cpu", "fp32"))
    torch.manual_seed(3)
    model = network()
    counters = Counters(batch=4, micro_batch=4, total_steps=10)
    return TrainState(model, make_optimiser(model, recipe.optim), None, None, counters, {}), machinery


def steps(state: TrainState, machinery: Machinery, count: int) -> None:
    rows = machinery.store.rows("train")
    for _ in range(count):
        first = 4 * state.counters.step
        train_step(state, machinery, rows[first : first + 4], np.zeros(4, dtype=np.int64))


def test_a_step_moves_every_stage_by_its_share_of_the_rate(discs: Path) -> None:
    """Hand computation of plain gradient descent: w - rate * share * gradient."""
    state, machinery = begin(discs, {"optim.name": "sgd", "optim.momentum": 0, "optim.weight_decay": 0})
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    steps(state, machinery, 1)
    assert state.counters.rate == 0.1
    for name, p in state.model.named_parameters():
        assert p.grad is not None
        assert p.grad.abs().max() > 0
        torch.testing.assert_close(p, before[name] - 0.1 * SHARES[name.rpartition(".")[0]] * p.grad)


def test_a_frozen_encoder_stays_as_it_is(discs: Path) -> None:
    state, machinery = begin(discs, {"optim.encoder_rate": 0})
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    steps(state, machinery, 3)
    moved = {name for name, p in state.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"head.weight", "head.bias"}


def test_slow_stages_resume_to_the_same_bits(discs: Path, tmp_path: Path) -> None:
    (state, machinery), (fresh, _) = begin(discs, {}), begin(discs, {"seed": 1})
    steps(state, machinery, 2)
    save_state(tmp_path, state)
    steps(state, machinery, 2)
    load_state(tmp_path, fresh)
    steps(fresh, machinery, 2)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name]), name


def test_stochastic_depth_resumes_to_the_same_bits(discs: Path, tmp_path: Path) -> None:
    usual: dict[str, object] = {"optim.encoder_rate": 1, "optim.layer_decay": 1, "optim.learning_rate": 1e-2}

    def dropping() -> nn.Module:
        return nn.Sequential(BasicBlock(3, 4, 1, drop=0.5), BasicBlock(4, 4, 2, drop=0.5), nn.Conv2d(4, 1, 1))

    (state, machinery), (fresh, _) = (begin(discs, usual, dropping) for _ in range(2))
    steps(state, machinery, 2)
    save_state(tmp_path, state)
    steps(state, machinery, 2)
    load_state(tmp_path, fresh)
    torch.manual_seed(9)  # whatever was drawn in the new process
    steps(fresh, machinery, 2)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name]), name
