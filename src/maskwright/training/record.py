"""Keeps the receipt while a run goes on: a few steps are hashed after they are done, none is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskwright.data.dataset import Dataset
from maskwright.errors import RunError
from maskwright.files import file_hash, write_text
from maskwright.receipt import (
    Data,
    Init,
    Life,
    Mark,
    Plan,
    Receipt,
    flags,
    hardware,
    read_receipt,
    recipe_hash,
    revision,
    source,
    tensor_numbers,
    tensors_hash,
    versions,
    write_digests,
)
from maskwright.runfolder import RunFolder
from maskwright.training.step import Counters, Machinery, TrainState, load_batch

ALL_UNTIL = 8
"""Every step up to here is marked, so that the first one that differs is known; then 16, 32, 64, ..."""


class Recorder:
    """Writes receipt.json and digests.csv; a resumed run continues them."""

    def __init__(
        self,
        folder: RunFolder,
        machinery: Machinery,
        state: TrainState,
        dataset: Dataset,
        *,
        init: Path | None,
        skip_broken: bool,
    ) -> None:
        self.file, self.machinery = folder.receipt_file, machinery
        counters, life = state.counters, life_of(machinery, dataset, state.counters.step)
        kept = _kept(folder.receipt_file) if counters.step else None
        if kept is None:
            write_digests(folder.digests_file, dataset.digests(), dataset.targets)
            kept = Receipt(
                recipe=machinery.recipe.model_dump(mode="json"),
                data=data_of(dataset),
                init=None if init is None else init_of(init),
                budget=counters.budget,
                batch=counters.batch,
                skip_broken=skip_broken,
                tensors=tuple(state.model.state_dict()),
                lives=(life,),
                plan=(plan_of(counters, counters.step),),
                marks=(mark_of(machinery, state),),
            )
        else:  # what a life did after its last save is done again
            kept = kept.model_copy(
                update={
                    "lives": (*(entry for entry in kept.lives if entry.step <= counters.step), life),
                    "plan": tuple(entry for entry in kept.plan if entry.step < counters.step),
                    "marks": tuple(mark for mark in kept.marks if mark.step <= counters.step),
                }
            )
        self.receipt = kept
        self._write()

    def step(self, state: TrainState, rows: np.ndarray, copies: np.ndarray) -> None:
        """After a step on these pictures."""
        counters, receipt = state.counters, self.receipt
        plan, last = plan_of(counters, counters.step - 1), receipt.plan[-1]
        due = counters.step <= ALL_UNTIL or counters.step & (counters.step - 1) == 0
        if plan == last.model_copy(update={"step": plan.step}) and not due:
            return
        if plan != last.model_copy(update={"step": plan.step}):
            receipt = receipt.model_copy(update={"plan": (*receipt.plan, plan)})
        if due:
            mark = mark_of(self.machinery, state, rows, copies)
            receipt = receipt.model_copy(update={"marks": (*receipt.marks, mark)})
        self.receipt = receipt
        self._write()

    def _write(self) -> None:
        write_text(self.file, self.receipt.to_json())


def life_of(machinery: Machinery, dataset: Dataset, step: int) -> Life:
    """This process, here and now."""
    precision = machinery.accelerator.mixed_precision
    return Life(
        step=step,
        begun=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        versions=versions(),
        revision=revision(),
        source=source(),
        hardware=hardware(),
        device=str(machinery.device),
        precision="fp32" if precision == "no" else precision,
        threads=torch.get_num_threads(),
        flags=flags(),
        data=dataset.fingerprint(),
        recipe=recipe_hash(machinery.recipe.model_dump(mode="json")),
    )


def data_of(dataset: Dataset) -> Data:
    return Data(
        name=dataset.name,
        fingerprint=dataset.fingerprint(),
        classes=dataset.classes.names,
        values={str(key): name for key, name in dataset.classes.to_values().items()},
        pictures=dict(Counter(item.split for item in dataset.items)),
    )


def init_of(folder: Path) -> Init:
    return Init(path=str(folder.resolve()), weights=file_hash(folder / "model.safetensors"))


def plan_of(counters: Counters, step: int) -> Plan:
    return Plan(
        step=step,
        total_steps=counters.total_steps,
        micro_batch=counters.micro_batch,
        strength=counters.strength,
        drops=counters.drops,
    )


def mark_of(
    machinery: Machinery, state: TrainState, rows: np.ndarray | None = None, copies: np.ndarray | None = None
) -> Mark:
    """The state as it is, after a step on these pictures. Draws no random number and changes nothing."""
    weights = [tensor.detach().cpu().contiguous() for tensor in state.model.state_dict().values()]
    pictures = batch = ""
    if rows is not None and copies is not None:
        pictures, batch = pictures_hash(machinery, rows), batch_hash(machinery, state.counters, rows, copies)
    return Mark(
        step=state.counters.step,
        loss=state.counters.loss if pictures else None,
        pictures=pictures,
        batch=batch,
        weights=tuple(tensors_hash([tensor]) for tensor in weights),
        numbers=tuple(map(tensor_numbers, weights)),
        averaged="" if state.averaged is None else tensors_hash(state.averaged.state_dict().values()),
    )


def pictures_hash(machinery: Machinery, rows: np.ndarray) -> str:
    """Of what the store holds: a difference comes from the files or from decoding them."""
    store = machinery.store

    def planes() -> Iterator[Tensor]:
        for row in rows:
            yield torch.from_numpy(store.images(row[None]))
            yield torch.from_numpy(store.labels(row[None]))
            if store.targets:
                yield torch.from_numpy(store.dense(row[None], list(store.targets)))

    return tensors_hash(planes())


def batch_hash(machinery: Machinery, counters: Counters, rows: np.ndarray, copies: np.ndarray) -> str:
    """Of what the network gets: a difference that the store has not comes from augmentation."""

    def tensors() -> Iterator[Tensor | None]:
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // counters.micro_batch)):
            batch = load_batch(machinery, rows[part], copies[part], counters.epoch, counters.strength)
            target = batch.target
            yield from (batch.images, target.labels, target.others, target.weight, target.dense)

    return tensors_hash(tensors())


def _kept(file: Path) -> Receipt | None:
    """A damaged receipt must not keep a run from going on; it begins anew."""
    try:
        return read_receipt(file)
    except RunError:
        return None
