"""The training loop: one page, from the recipe and the data to the best weights in `model/`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.config import Recipe
from maskwright.data.dataset import Dataset
from maskwright.data.store import prepare
from maskwright.errors import DataError
from maskwright.files import remove_partials
from maskwright.predict.model_folder import save_model
from maskwright.progress import SILENT, Progress
from maskwright.runfolder import Logged, MetricRow, RunFolder
from maskwright.training.begin import assemble, first_state
from maskwright.training.board import Board
from maskwright.training.budget import PROBE_STEPS, plan_steps
from maskwright.training.checkpoint import has_state, load_state, save_state
from maskwright.training.device import batch_size, make_accelerator
from maskwright.training.epoch import epoch_line, finish_epoch, out_of_patience, validate
from maskwright.training.interrupt import polite_stop
from maskwright.training.record import Recorder
from maskwright.training.step import epoch_pictures, train_step


@dataclass(frozen=True)
class Trained:
    """How a run ended."""

    best_epoch: int
    best_value: float
    """Of `train.monitor` at the best epoch."""
    epochs: int
    steps: int
    seconds: float


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: RunFolder,
    *,
    device: str = "auto",
    init: Path | None = None,
    budget: float | None = None,
    resume: bool = False,
    skip_broken: bool = False,
    checkpoint_every: float = 45.0,
    progress: Progress = SILENT,
    track: Callable[[MetricRow], None] = lambda row: None,
) -> Trained:
    """Train `recipe` on `dataset` into `folder`; the best weights end up in `folder.model`.

    budget and checkpoint_every are seconds; `track` gets each new row of metrics.csv. With `resume` the run goes on
    from its last save, to the same bits as if it had never stopped (CPU, fp32, same number of threads). With `init` it
    starts from the weights of a model folder. Raises UserError; Ctrl-C saves, then raises KeyboardInterrupt.
    """
    begun = time.monotonic()
    progress = Logged(progress, folder.log_file)
    store = prepare(
        dataset, recipe.input, workers=recipe.train.workers, skip_broken=skip_broken, progress=progress
    )
    if not len(store.rows("train")) or not len(store.rows("validation")):
        raise DataError(
            f"{dataset.name} has no training or no validation pictures", "see `maskwright data show`"
        )
    machinery, spec = assemble(recipe, dataset, store, make_accelerator(device, recipe.train.precision))
    state = first_state(machinery, spec, init, progress)
    state.counters.budget = budget
    if resume:
        remove_partials(folder.path)
        if has_state(folder.checkpoints):
            load_state(folder.checkpoints, state)
        else:
            progress.say("The run was stopped before its first save; it starts from its first step.")
    folder.write_metrics(state.counters.rows)
    counters = state.counters
    counters.batch = counters.batch or batch_size(machinery, state)
    counters.micro_batch = counters.micro_batch or counters.batch
    pictures = len(store.rows("train")) * (recipe.augment.copies + 1)
    steps_per_epoch = math.ceil(pictures / (counters.batch * recipe.train.accumulate))
    if counters.budget is None or not counters.total_steps:
        counters.total_steps = recipe.train.epochs * steps_per_epoch
    recorder = Recorder(folder, machinery, state, dataset, init=init, skip_broken=skip_broken)
    spent_before, saved = counters.seconds, time.monotonic()

    def spent() -> float:
        return spent_before + time.monotonic() - begun

    def replan(validation_seconds: float | None = None) -> None:
        if counters.budget is not None:
            counters.total_steps = plan_steps(counters, spent(), steps_per_epoch, validation_seconds)

    def save() -> None:
        nonlocal saved
        counters.seconds = spent()
        save_state(folder.checkpoints, state)
        if state.best:
            save_model(folder.model, spec.model_copy(update={"epoch": counters.best_epoch}), state.best)
        saved = time.monotonic()

    with polite_stop() as stop, Board(folder, spec, machinery, counters) as board:
        while counters.step < counters.total_steps and not out_of_patience(recipe, counters):
            epochs = counters.epoch + math.ceil((counters.total_steps - counters.step) / steps_per_epoch)
            epoch_rows, copies = epoch_pictures(store, recipe, counters.epoch)
            parts = np.array_split(np.arange(pictures), steps_per_epoch)  # no tiny last batch
            with progress.task(f"Epoch {counters.epoch + 1}/{epochs}", steps_per_epoch) as advance:
                advance(counters.step_in_epoch)
                for part in parts[counters.step_in_epoch :]:
                    train_step(state, machinery, epoch_rows[part], copies[part])
                    recorder.step(state, epoch_rows[part], copies[part])
                    advance(1)
                    if counters.step == PROBE_STEPS:
                        replan()
                    if stop.asked or time.monotonic() - saved > checkpoint_every:
                        save()
                    if stop.asked:
                        raise KeyboardInterrupt
                    if counters.step >= counters.total_steps:
                        break
            validation_begun = time.monotonic()
            scores = validate(state.judged, machinery, counters.micro_batch)
            finish_epoch(state, machinery, scores, spent())
            replan(time.monotonic() - validation_begun)
            folder.write_metrics(counters.rows)
            board.epoch(counters.rows[-1], state.judged)
            track(counters.rows[-1])
            progress.say(epoch_line(counters.rows[-1], best=counters.best_epoch == counters.epoch))
        save()
    best = next(row for row in counters.rows if row["epoch"] == counters.best_epoch)
    return Trained(
        counters.best_epoch, best[recipe.train.monitor], counters.epoch, counters.step, counters.seconds
    )
