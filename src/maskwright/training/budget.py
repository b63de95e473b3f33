"""A time budget turned into a number of steps, so that the rate is annealed when the time is up."""

from __future__ import annotations

import re
from statistics import median

from maskwright.errors import ConfigError
from maskwright.training.step import Counters

PROBE_STEPS = 12
"""After so many steps the first plan is made."""

RESERVE = 0.02
"""Share of the budget kept for saving and the last pictures."""


def parse_budget(text: str) -> float:
    """`90s`, `15m`, `1h30m` -> seconds. Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    parts = [float(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)) if parts else 0.0
    if seconds <= 0:
        raise ConfigError(f"--budget {text} is no time", "write 90s, 15m or 1h30m")
    return seconds


def plan_steps(
    counters: Counters, spent: float, steps_per_epoch: int, validation_seconds: float | None = None
) -> int:
    """The step at which training should end so that `counters.budget` seconds are kept.

    `spent` seconds are gone. Before the first validation its time is guessed as a tenth of an epoch. Whole epochs
    where at least three fit, because a part of an epoch trains on a part of the pictures; otherwise as many steps
    as fit. At least one more step, so that there is a model to keep.
    """
    assert counters.budget is not None
    recent = (
        counters.step_seconds[PROBE_STEPS // 3 :] or counters.step_seconds
    )  # the first ones allocate: slow
    step_seconds = median(recent)
    if validation_seconds is None:
        validation_seconds = steps_per_epoch * step_seconds / 10
    left = max(counters.budget * (1 - RESERVE) - spent, 0.0)
    begun = counters.step_in_epoch > 0
    first = (steps_per_epoch - counters.step_in_epoch) * step_seconds + validation_seconds if begun else 0.0
    epochs = int((left - first) / (steps_per_epoch * step_seconds + validation_seconds))
    if left >= first and counters.epoch + begun + epochs >= 3:
        return counters.step + begun * (steps_per_epoch - counters.step_in_epoch) + epochs * steps_per_epoch
    return counters.step + max(int((left - validation_seconds) / step_seconds), 0 if counters.epoch else 1)
