"""Do the first steps of a run again, from its recipe and its data, and say whether the same weights come out."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml

from maskwright.config import Recipe
from maskwright.data.dataset import Dataset, open_dataset
from maskwright.data.store import prepare
from maskwright.errors import DataError, RunError, UserError
from maskwright.files import write_text
from maskwright.predict.model_folder import find_model
from maskwright.progress import SILENT, Progress
from maskwright.receipt import (
    Check,
    DataChange,
    Life,
    Mark,
    Receipt,
    compare_marks,
    data_changes,
    in_force,
    life_changes,
    read_digests,
    read_receipt,
    recipe_changes,
)
from maskwright.runfolder import RunFolder
from maskwright.training.begin import assemble, first_state
from maskwright.training.device import make_accelerator
from maskwright.training.record import data_of, init_of, life_of, mark_of
from maskwright.training.step import Machinery, TrainState, epoch_pictures, train_step

STEPS = 8
"""Steps that `verify` does again."""

TOLERANCE: dict[str, float] = {"fp32": 0.05, "bf16": 0.2, "fp16": 0.2}
"""Largest `drift` in the first STEPS steps that another order of sums explains, by precision: twice what two threads
instead of one made of UNet and ResNet34-UNet with AdamW (0.025 and 0.093). A rate higher by a tenth makes 0.1."""

LOSS_TOLERANCE: dict[str, float] = {"fp32": 1e-3, "bf16": 1e-2, "fp16": 1e-2}
"""The same for the relative difference of a step's loss; two threads instead of one made 1.3e-5 and 9e-5 of it."""

NAMED = 5
"""Pictures that a reason names; the others it counts."""

Verdict = Literal["exact", "tolerance", "diverged"]


@dataclass(frozen=True)
class Verification:
    """What came out of doing the first steps again."""

    run: str
    verdict: Verdict
    """exact: the same bits. tolerance: other bits, as close as another order of sums explains. diverged: neither, or
    recipe or data are not those of the run."""
    checks: tuple[Check, ...]
    """The recorded steps, in order."""
    tolerance: float
    """Of the `drift` of a check."""
    reasons: tuple[str, ...]
    """What is different from the run and matters, most likely first."""
    notes: tuple[str, ...]
    """What is different and does not touch these steps."""

    @property
    def steps(self) -> int:
        """The last step that was compared."""
        return self.checks[-1].step

    @property
    def first(self) -> Check | None:
        """The first step whose bits differ."""
        return next((check for check in self.checks if not check.exact), None)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        first, until = self.first, f"{self.steps} steps" if self.steps != 1 else "first step"
        if first is None:
            same = f"{self.run}: the first {until} have the same bits: every weight, every loss, every batch"
            return (
                same
                if self.verdict == "exact"
                else f"{same}, but not all that the run was made of is the same"
            )
        where = f"step {first.step}" if first.step else "the initial weights"
        if self.verdict == "tolerance":
            largest = max(check.drift for check in self.checks if check.step <= STEPS)
            return (
                f"{self.run}: equal within tolerance over the first {until}: other bits from {where} on, but the "
                f"weights are apart by at most {largest:.1e} of the way they came (tolerance {self.tolerance:g})"
            )
        named = first.differing
        layers = f"; {len(named)} tensors differ there, the first of them {named[0]}" if named else ""
        return f"{self.run}: diverges at {where}, in {first.side}{layers}"


def verify(
    folder: RunFolder,
    *,
    steps: int = STEPS,
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Verification:
    """Replay the steps 1 to `steps` of a run beside it, and compare with its receipt. The run is not touched.

    It starts from the recipe.yaml and the data as they are now (`data`: where they lie now), on the device of the run
    where there is one, in its precision, with its threads (or `threads`) and by its plan: a run with a time budget
    had its number of steps from the clock. Raises UserError: no receipt, a damaged one, data that are gone.
    """
    receipt, recipe = read_receipt(folder.receipt_file), folder.read_recipe()
    if receipt.marks[0].step:
        raise RunError(
            f"the receipt of {folder.path} begins at step {receipt.marks[0].step}: what came before was not recorded",
            "train anew with its recipe.yaml",
        )
    dataset, life, before = (
        _dataset(folder, data, receipt.skip_broken),
        receipt.lives[0],
        torch.get_num_threads(),
    )
    store = prepare(
        dataset,
        recipe.input,
        workers=recipe.train.workers,
        skip_broken=receipt.skip_broken,
        progress=progress,
    )
    precision = life.precision if recipe.train.precision == "auto" else recipe.train.precision
    machinery, spec = assemble(recipe, dataset, store, make_accelerator(_device(life, device), precision))
    init = None if receipt.init is None else _init(folder, receipt.init.path)
    state = first_state(machinery, spec, init, SILENT)
    names, marks = tuple(state.model.state_dict()), {mark.step: mark for mark in receipt.marks}
    last, checks = max(step for step in marks if step <= max(steps, 1)), []
    try:
        with progress.task("Replaying", last) as advance:
            for mark in replay(machinery, state, receipt, last, threads, advance):
                then = (receipt.tensors, marks[mark.step])
                checks.append(compare_marks(then, (names, mark), receipt.marks[0]))
    except RunError:  # the loss became nan
        if all(check.exact for check in checks):
            raise
    finally:
        torch.set_num_threads(before)
    now = life_of(machinery, dataset, 0).model_copy(update={"threads": threads or life.threads})
    changes = _changes(folder, receipt, recipe, dataset, init)
    return judge(folder.name, receipt, tuple(checks), *changes, life_changes(life, now))


def replay(
    machinery: Machinery,
    state: TrainState,
    receipt: Receipt,
    last: int,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Iterator[Mark]:
    """The marks that the receipt has of steps 0 to `last`, made again by its plan. Mutates `state`."""
    recipe, counters = machinery.recipe, state.counters
    wanted = {mark.step for mark in receipt.marks}
    batch = recipe.train.batch if isinstance(recipe.train.batch, int) else receipt.batch
    pictures = len(machinery.store.rows("train")) * (recipe.augment.copies + 1)
    steps_per_epoch = math.ceil(pictures / (batch * recipe.train.accumulate))
    yield mark_of(machinery, state)
    for step in range(last):
        plan = in_force(receipt.plan, step)
        counters.total_steps, counters.strength, counters.drops = plan.total_steps, plan.strength, plan.drops
        counters.micro_batch = plan.micro_batch if plan.micro_batch < receipt.batch else batch
        torch.set_num_threads(threads or in_force(receipt.lives, step).threads)
        counters.epoch, counters.step_in_epoch = divmod(step, steps_per_epoch)
        order, copies = epoch_pictures(machinery.store, recipe, counters.epoch)
        part = np.array_split(np.arange(pictures), steps_per_epoch)[counters.step_in_epoch]
        train_step(state, machinery, order[part], copies[part])
        if counters.step in wanted:
            yield mark_of(machinery, state, order[part], copies[part])
        advance(1)


def judge(
    run: str,
    receipt: Receipt,
    checks: tuple[Check, ...],
    changes: tuple[str, ...],
    harmless: tuple[str, ...],
    around: tuple[str, ...],
) -> Verification:
    """The verdict. `changes`: of recipe and data; `harmless`: of data that training does not see; `around`: the rest.

    Other bits are within tolerance only where something explains them: another thing around the work, or a device
    that does not repeat its own sums. A CPU with everything as it was gives the same bits.
    """
    life = receipt.lives[0]
    exact = all(check.exact for check in checks)
    close = all(
        check.drift <= TOLERANCE[life.precision] and check.loss_difference <= LOSS_TOLERANCE[life.precision]
        for check in checks
        if check.step <= STEPS  # later the smallest difference has grown by itself
    )
    explained = bool(around) or life.device != "cpu"
    verdict: Verdict = "exact" if exact else "tolerance" if close and explained else "diverged"
    reasons, notes = [*changes], [*harmless]
    if changes:
        verdict = "diverged"
    if exact:
        notes += [f"{change}; without effect on these steps" for change in around]
    else:
        reasons += around
    if not exact and not reasons:
        unlike = [check.step for check in checks if not check.exact]
        again = [check.step for check in checks if check.exact and check.step > unlike[0]]
        if again:
            reasons = [
                f"receipt.json was altered: step {again[0]} has the same bits again, and training does not find back"
            ]
        elif life.device == "cpu":
            reasons = [
                "nothing that the receipt knows of has changed: receipt.json was altered, or memory fails"
            ]
        else:
            reasons = [f"{life.device} does not add in the same order twice"]
    return Verification(run, verdict, checks, TOLERANCE[life.precision], tuple(reasons), tuple(notes))


def _changes(
    folder: RunFolder, receipt: Receipt, recipe: Recipe, dataset: Dataset, init: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs of all that decides the run; and what differs of its data without deciding anything."""
    said, harmless = [], []
    edited = recipe_changes(receipt, recipe)
    if edited:
        said.append(f"the recipe changed: {', '.join(edited)}")
    if dataset.fingerprint() != receipt.data.fingerprint:
        now = {
            name: dict(zip(["split", "picture", "mask", *dataset.targets], row, strict=True))
            for name, row in dataset.digests().items()
        }
        then = read_digests(folder.digests_file)
        changed = data_changes(then, now) if then else ()
        trains = [change for change in changed if change.trains]
        others = [change for change in changed if not change.trains]
        meant = data_of(dataset)
        if (meant.classes, meant.values) != (receipt.data.classes, receipt.data.values):
            said.append("the data changed: classes or values of dataset.yaml are others")
        if trains:
            said.append(f"the data changed: {_few(trains)}")
        if others:
            harmless.append(f"pictures that training does not see have changed: {_few(others)}")
        if not changed and len(said) == bool(edited):
            why = (
                "pictures come in another order or in other groups"
                if then
                else f"which pictures cannot be told, since {folder.digests_file} is missing or damaged"
            )
            said.append(f"the data changed: {why}")
    if init is not None and receipt.init is not None and init_of(init).weights != receipt.init.weights:
        said.append(f"the weights that the run started from changed: {receipt.init.path}")
    later = [
        life
        for life in receipt.lives[1:]
        if (life.recipe, life.data) != (receipt.lives[0].recipe, receipt.lives[0].data)
    ]
    harmless += [f"the run went on at step {life.step} with another recipe or other data" for life in later]
    return tuple(said), tuple(harmless)


def _few(changes: Sequence[DataChange]) -> str:
    more = f" and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
    return ", ".join(map(str, changes[:NAMED])) + more


def _dataset(folder: RunFolder, data: str | Path | None, skip_broken: bool) -> Dataset:
    """The run's own, or the same rows in another place."""
    if data is None:
        try:
            return folder.read_dataset(skip_broken=skip_broken)
        except DataError as error:
            raise RunError(
                f"the data of {folder.path} cannot be read: {error.problem}",
                "--data names where they lie now",
            ) from error
    if not Path(data).is_dir() or not folder.dataset_file.is_file():
        return open_dataset(data, skip_broken=skip_broken)
    values = yaml.safe_load(folder.dataset_file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:  # its splits and classes, another root
        moved = Path(scratch) / "dataset.yaml"
        text = yaml.safe_dump(
            {**values, "path": str(Path(data).resolve())}, sort_keys=False, allow_unicode=True
        )
        write_text(moved, text)
        return open_dataset(moved, skip_broken=skip_broken)


def _init(folder: RunFolder, path: str) -> Path:
    try:
        return find_model(path)
    except UserError as error:
        raise RunError(
            f"{folder.path} started from the weights in {path}, which are gone", "put that model folder back"
        ) from error


def _device(life: Life, asked: str) -> str:
    """The kind of device that the run had, where there is one."""
    kind = life.device.partition(":")[0]
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return kind if asked == "auto" and here.get(kind) else asked
