"""What happens once an epoch: validation, the row of metrics.csv, best weights, plateau, patience, strength."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from maskwright.augment.params import next_strength
from maskwright.config import Recipe
from maskwright.data.store import Store
from maskwright.metrics.contract import DEFAULT
from maskwright.metrics.counts import confusions
from maskwright.metrics.scores import summary
from maskwright.models.heads import without_heads
from maskwright.tensors import Outputs
from maskwright.training.step import (
    Counters,
    Machinery,
    TrainState,
    dense_units,
    hard_labels,
    judging,
    load_target,
    predict_rows,
)


def validate(model: nn.Module, machinery: Machinery, batch: int) -> dict[str, float]:
    """val_loss, val_dice_image, val_miou and val_NAME_mae of each dense target that a loss asks for.

    On the store's pictures, `batch` at a time, at the network's size; the errors in the targets' own units.
    """
    store, classes = machinery.store, len(machinery.store.class_pixels)
    loss_sum, pictures, tables = 0.0, 0, []
    names = list(machinery.recipe.loss.targets)
    errors_T, known_T = np.zeros(len(names)), np.zeros(len(names))
    with judging(model):
        for rows in _same_shape_batches(store, store.rows("validation"), batch):
            logits, answers = predict_rows(model, machinery, rows)
            target = load_target(machinery, rows)
            # As at the end of the run: plateau, patience and monitor compare the losses of different epochs.
            loss_sum += machinery.loss(Outputs(logits, answers), target, progress=1.0).item() * len(rows)
            pictures += len(rows)
            tables.append(confusions(target.labels, hard_labels(logits), classes, DEFAULT.ignore))
            if answers is not None and target.dense is not None:
                misses = (answers[:, -len(names) :] - target.dense).abs()
                errors_T += misses.nansum((0, 2, 3)).cpu().numpy()
                known_T += (~misses.isnan()).sum((0, 2, 3)).cpu().numpy()
    scores, units_T = summary(np.concatenate(tables), DEFAULT), dense_units(machinery)
    return {
        "val_loss": loss_sum / pictures,
        "val_dice_image": scores["dice_image"],
        "val_miou": scores["miou"],
        **{
            f"val_{name}_mae": float(unit * error / known) if known else math.nan
            for name, unit, error, known in zip(names, units_T, errors_T, known_T, strict=True)
        },
    }


def _same_shape_batches(store: Store, rows: np.ndarray, batch: int) -> Sequence[np.ndarray]:
    """Windows are for training; whole pictures of native size can share a batch only with their like."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for row in rows.tolist():
        by_shape.setdefault(store.shape(row), []).append(row)
    return [
        np.array(same[start : start + batch])
        for same in by_shape.values()
        for start in range(0, len(same), batch)
    ]


def finish_epoch(state: TrainState, machinery: Machinery, scores: dict[str, float], seconds: float) -> None:
    """The row of metrics.csv, the best weights, plateau and patience, adaptive strength. Mutates `state`."""
    counters, recipe = state.counters, machinery.recipe
    counters.epoch += 1
    train_loss = counters.loss_sum / max(counters.pictures, 1)
    counters.rows.append(
        {
            "epoch": counters.epoch,
            "step": counters.step,
            "seconds": round(seconds, 3),
            "images_per_second": round(counters.pictures / max(counters.epoch_seconds, 1e-9), 2),
            "train_loss": train_loss,
            **scores,
            "learning_rate": counters.rate,
            "strength": counters.strength,
        }
    )
    monitor = recipe.train.monitor
    value = -scores[monitor] if monitor == "val_loss" else scores[monitor]
    counters.waits += 1
    if value > counters.best_value or not counters.best_epoch:
        counters.best_value, counters.best_epoch, counters.waits = value, counters.epoch, 0
        state.best = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in without_heads(state.judged.state_dict()).items()
        }
    counters.plateau_waits += 1
    if scores["val_loss"] < counters.plateau_best:
        counters.plateau_best, counters.plateau_waits = scores["val_loss"], 0
    if counters.plateau_waits > recipe.optim.plateau_patience:
        counters.drops, counters.plateau_waits = counters.drops + 1, 0
    if recipe.augment.strength == "adaptive":
        counters.strength = next_strength(counters.strength, train_loss, scores["val_loss"])
    counters.step_in_epoch, counters.loss_sum, counters.pictures, counters.epoch_seconds = 0, 0.0, 0, 0.0


def out_of_patience(recipe: Recipe, counters: Counters) -> bool:
    return 0 < recipe.train.patience <= counters.waits


def epoch_line(row: dict[str, float], *, best: bool) -> str:
    """What a person wants to know of an epoch."""
    return (
        f"epoch {row['epoch']:.0f}: train loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
        f"Dice {row['val_dice_image']:.4f}, mIoU {row['val_miou']:.4f}, "
        + "".join(f"MAE of {name[4:-4]} {row[name]:.4g}, " for name in row if name.endswith("_mae"))
        + f"{row['images_per_second']:.1f} images/s"
        + (" (best so far)" if best else "")
    )
