"""What a run shows while it goes: TensorBoard, the first batch as the network saw it, predictions at its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np
from torch import nn

from maskwright.data.classes import ClassMap
from maskwright.draw import batch_sheet, predictions_sheet
from maskwright.files import write_atomic
from maskwright.predict.model_folder import ModelSpec
from maskwright.runfolder import RunFolder
from maskwright.training.step import (
    Counters,
    Machinery,
    epoch_pictures,
    hard_labels,
    judging,
    load_batch,
    predict_rows,
)

SHOWN = 8
"""Pictures on a sheet."""


class Board:
    """Writes events.out.tfevents.*, batch.png and predictions.png into the run folder."""

    def __init__(self, folder: RunFolder, spec: ModelSpec, machinery: Machinery, counters: Counters) -> None:
        self.folder, self.machinery = folder, machinery
        self.classes = ClassMap(spec.classes, spec.colours, {})
        self.counters = counters

    def __enter__(self) -> Self:
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        from torch.utils.tensorboard import SummaryWriter

        # Steps of a life that was cut off after its last save are trained again: their events are purged.
        self.events = SummaryWriter(str(self.folder.path), purge_step=self.counters.epoch + 1)
        if self.counters.step == 0:
            self._draw_first_batch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.close()

    def epoch(self, row: Mapping[str, float], model: nn.Module) -> None:
        """Scalars of every epoch; pictures of epochs 1, 2, 4, 8, ..., because they are large and change slowly."""
        epoch = int(row["epoch"])
        for name in list(row)[2:]:
            self.events.add_scalar(name, row[name], epoch)
        if epoch & (epoch - 1) == 0:
            sheet = self.predictions(model)
            self.events.add_image("validation", sheet, epoch, dataformats="HWC")
        self.events.flush()

    def predictions(self, model: nn.Module) -> np.ndarray:
        """Picture, truth, prediction and errors of the first validation pictures: H W 3 uint8."""
        store = self.machinery.store
        rows = [row[None] for row in store.rows("validation")[:SHOWN]]
        with judging(model):
            said = [predict_rows(model, self.machinery, row)[0] for row in rows]
            answers = [hard_labels(logits)[0].cpu().numpy() for logits in said]
        pictures = [np.moveaxis(store.images(row)[0], 0, -1) for row in rows]
        truths = [store.labels(row)[0] for row in rows]
        masks = [answer.astype(np.uint8) for answer in answers]
        return np.asarray(predictions_sheet(pictures, truths, masks, self.classes))

    def _draw_first_batch(self) -> None:
        machinery = self.machinery
        rows, copies = epoch_pictures(machinery.store, machinery.recipe, 0)
        strength = self.counters.strength
        batch = load_batch(machinery, rows[:SHOWN], copies[:SHOWN], 0, strength)
        sheet = batch_sheet(batch, self.classes)
        write_atomic(self.folder.path / "batch.png", lambda beside: sheet.save(beside, format="PNG"))
