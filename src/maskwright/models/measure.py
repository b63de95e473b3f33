"""What a network costs on this machine."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import torch
from torch import nn

WARM_UP = 3
"""Predictions before the clock starts: kernels are chosen, memory is taken."""


class Latency(NamedTuple):
    """Seconds of one prediction."""

    median: float
    fastest: float
    slowest: float


def latency(model: nn.Module, input_hw: tuple[int, int], in_channels: int, *, repeats: int = 10) -> Latency:
    """How long one picture takes, B = 1, in evaluation mode and without gradients, on the model's device.

    `repeats` predictions in turn, each timed alone and, on a GPU, until its last kernel is done. The model is left
    in the mode it was in.
    """
    device = next(model.parameters()).device
    picture = torch.rand(1, in_channels, *input_hw, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for _ in range(WARM_UP):
                _timed(model, picture)
            seconds = [_timed(model, picture) for _ in range(repeats)]
    finally:
        model.train(was_training)
    return Latency(statistics.median(seconds), min(seconds), max(seconds))


def _timed(model: nn.Module, picture: torch.Tensor) -> float:
    _finish(picture.device)
    began = time.perf_counter()
    model(picture)
    _finish(picture.device)
    return time.perf_counter() - began


def _finish(device: torch.device) -> None:
    """Wait for what an accelerator was told to do; a CPU has done it already."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
