"""What training is, as one named thing, and one step of it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskwright.augment.apply import apply
from maskwright.augment.params import draw
from maskwright.config import Recipe
from maskwright.data.store import Store
from maskwright.errors import RunError
from maskwright.losses import Loss
from maskwright.models.heads import Heads
from maskwright.predict.memory import out_of_memory
from maskwright.predict.preprocess import Preprocess
from maskwright.tensors import Batch, Labels, Logits, Outputs, Target
from maskwright.training.optim import average, learning_rate

if TYPE_CHECKING:
    from accelerate import Accelerator

RECENT = 48
"""Steps whose times are kept for the budget's plan."""


@dataclass
class Counters:
    """The part of the state that is numbers: saved as JSON, whole."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Optimiser steps done, over all epochs."""
    step_in_epoch: int = 0
    total_steps: int = 0
    """Where the schedule ends; a time budget moves it."""
    loss: float = 0.0
    """Of the latest step."""
    loss_sum: float = 0.0
    """Of the running epoch, each picture's share."""
    pictures: int = 0
    """Of the running epoch."""
    seconds: float = 0.0
    """Training time so far, over all lives of the run."""
    epoch_seconds: float = 0.0
    """Of the running epoch, steps only."""
    step_seconds: list[float] = field(default_factory=list)
    """Of the latest steps."""
    rate: float = 0.0
    """Learning rate of the latest step, before the factors of the parameter groups."""
    drops: int = 0
    """Falls of the rate on plateaus."""
    plateau_best: float = float("inf")
    plateau_waits: int = 0
    best_value: float = float("-inf")
    """Best of `train.monitor` (losses with their sign turned)."""
    best_epoch: int = 0
    waits: int = 0
    """Epochs since the best."""
    strength: float = 1.0
    """Of the augmentation."""
    batch: int = 0
    """Pictures in a batch, with auto resolved."""
    micro_batch: int = 0
    """Pictures that fit through the network at once."""
    budget: float | None = None
    """Seconds that the whole run may take."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """metrics.csv."""

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps."""
        return self.step / max(self.total_steps, 1)


@dataclass
class TrainState:
    """Everything that changes while training: continue from a copy of it and you get the same bits."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    averaged: nn.Module | None
    """Moving average of the weights; validated and kept instead of `model` where it exists."""
    scaler: Any
    """Loss scaling of fp16, else None."""
    counters: Counters
    best: dict[str, Tensor]
    """Weights of the best epoch, on the CPU."""

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.averaged if self.averaged is not None else self.model


@dataclass(frozen=True)
class Machinery:
    """Everything that does not change while training."""

    recipe: Recipe
    store: Store
    preprocess: Preprocess
    loss: Loss
    accelerator: Accelerator

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator.device)


def counter_seed(*counters: int | str) -> int:
    """A 63-bit seed from counters, the same on every machine."""
    digest = hashlib.blake2b(repr(counters).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients within; the mode is as before afterwards. Auxiliary heads still answer."""
    training = model.training
    model.eval()
    for module in model.modules():
        if isinstance(module, Heads):
            module.train()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def epoch_pictures(store: Store, recipe: Recipe, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, copies) of the training pictures of an epoch, in its order."""
    rows = store.rows("train")
    holds, share = store.foreground[rows] > 0, recipe.train.foreground
    return epoch_order(rows, recipe.augment.copies, epoch, recipe.seed, holds, share)


def epoch_order(
    rows: np.ndarray,
    copies: int,
    epoch: int,
    seed: int,
    holds: np.ndarray | None = None,
    share: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, copies) of an epoch, shuffled by (seed, epoch) alone. Copy 0 is the only one, or the original.

    At least `share` of them are rows of which `holds` (one per row) is true, if there is any. Where they are fewer by
    themselves, all of them are shown once, then all once more, and so on, each time under a copy number of its own;
    the last round and the other rows are drawn without replacement. An epoch stays as long as it was.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(rows) * (copies + 1))
    rounds = np.zeros_like(order)
    found = np.zeros(len(order), bool) if holds is None else holds[order % len(rows)]
    wanted = math.ceil(round(share * len(order), 6))  # 0.1 * 30 is a little more than 3
    if 0 < found.sum() < wanted:
        rounds[:wanted] = np.arange(wanted) // found.sum()
        order = np.concatenate([np.resize(order[found], wanted), order[~found][: len(order) - wanted]])
        mixed = random.permutation(len(order))
        order, rounds = order[mixed], rounds[mixed]
    return rows[order % len(rows)], order // len(rows) + rounds * (copies + 1)


def load_batch(
    machinery: Machinery, rows: np.ndarray, copies: np.ndarray, epoch: int, strength: float
) -> Batch:
    """Pictures of these rows in [0, 1], augmented, on the device."""
    recipe, store, device = machinery.recipe, machinery.store, machinery.device
    params = draw(rows, epoch, recipe.augment, seed=recipe.seed, copies_B=copies, strength=strength)
    windows = params.window_B2 if recipe.input.fit == "crop" else None
    images = torch.from_numpy(store.images(rows, windows)).to(device, non_blocking=True)
    target = load_target(machinery, rows, windows)
    return apply(Batch(images.float().div_(255), target), params, fill=machinery.preprocess.fill)


def load_target(machinery: Machinery, rows: np.ndarray, windows: np.ndarray | None = None) -> Target:
    """Labels and the dense targets that the loss asks for, these standardised, on the device."""
    store, device, names = machinery.store, machinery.device, list(machinery.recipe.loss.targets)
    labels = torch.from_numpy(store.labels(rows, windows)).to(device, non_blocking=True)
    if not names:
        return Target(labels)
    mean_T = np.array([store.targets[name].mean for name in names], np.float32)
    fields = store.dense(rows, names, windows) - mean_T[:, None, None]
    fields /= dense_units(machinery)[:, None, None]
    return Target(labels, dense=torch.from_numpy(fields).to(device, non_blocking=True))


def dense_units(machinery: Machinery) -> np.ndarray:
    """What 1 means in the standardised values of each of `loss.targets`: its deviation; 1 for a constant."""
    deviations = [machinery.store.targets[name].deviation for name in machinery.recipe.loss.targets]
    return np.array([deviation or 1.0 for deviation in deviations], np.float32)


def predict_rows(
    model: nn.Module, machinery: Machinery, rows: np.ndarray
) -> tuple[Logits, Float[Tensor, "B A H W"] | None]:
    """Logits of the store's pictures of one shape, not augmented, float32; and what auxiliary heads say."""
    images = torch.from_numpy(machinery.store.images(rows)).to(machinery.device).float().div_(255)
    images = machinery.preprocess.normalise(images).contiguous(memory_format=torch.channels_last)
    with machinery.accelerator.autocast():
        outputs: Logits | Outputs = model(images)
    if isinstance(outputs, Outputs):
        logits, answers = cast(tuple[Logits, Tensor], outputs)
        return logits.float(), answers.float()
    return outputs.float(), None


def hard_labels(logits: Logits) -> Labels:
    """The most likely class of each pixel."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


def train_step(state: TrainState, machinery: Machinery, rows: np.ndarray, copies: np.ndarray) -> None:
    """One optimiser step on these pictures. Mutates `state`, nothing else.

    Pictures go through the network `micro_batch` at a time and their gradients are summed, so that the effective
    batch does not depend on the memory. When even that does not fit, the micro-batch is halved and the step is
    begun again.
    """
    counters, optim, begun = state.counters, machinery.recipe.optim, time.monotonic()
    counters.rate = learning_rate(optim, counters.progress, counters.drops)
    for group in state.optimiser.param_groups:
        group["lr"] = counters.rate * group["factor"]
    while True:
        torch.manual_seed(counter_seed(machinery.recipe.seed, "dropout", counters.step))
        try:
            loss = _accumulate_gradients(state, machinery, rows, copies)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or counters.micro_batch <= 1:
                raise
            counters.micro_batch = (min(counters.micro_batch, len(rows)) + 1) // 2
            if machinery.device.type == "cuda":
                torch.cuda.empty_cache()
    if not np.isfinite(loss):
        raise RunError(
            f"the loss became {loss} at step {counters.step + 1}",
            "lower optim.learning_rate, set optim.clip=1 or train.precision=fp32",
        )
    if optim.clip:
        machinery.accelerator.clip_grad_norm_(state.model.parameters(), optim.clip)
    state.optimiser.step()
    if state.averaged is not None:
        average(state.averaged, state.model, optim.ema, counters.step)
    counters.step += 1
    counters.step_in_epoch += 1
    counters.loss = loss
    counters.loss_sum += loss * len(rows)
    counters.pictures += len(rows)
    counters.step_seconds = [*counters.step_seconds[1 - RECENT :], time.monotonic() - begun]
    counters.epoch_seconds += counters.step_seconds[-1]


def _accumulate_gradients(
    state: TrainState, machinery: Machinery, rows: np.ndarray, copies: np.ndarray
) -> float:
    """Mean loss over the pictures; its gradient lies in the parameters afterwards."""
    state.optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for part in np.array_split(np.arange(len(rows)), -(-len(rows) // state.counters.micro_batch)):
        batch = load_batch(machinery, rows[part], copies[part], state.counters.epoch, state.counters.strength)
        images = machinery.preprocess.normalise(batch.images).contiguous(memory_format=torch.channels_last)
        with machinery.accelerator.autocast():
            outputs = state.model(images)
        loss = machinery.loss(outputs, batch.target, state.counters.progress) * (len(part) / len(rows))
        machinery.accelerator.backward(loss)
        total += loss.item()
    return total
