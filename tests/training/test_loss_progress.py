"""A term with a ramp costs a training step its share of the run, and validation the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.runfolder import RunFolder
from maskwright.training.loop import train


def test_the_ramp_follows_the_run_and_validation_does_not(discs: Path, tmp_path: Path) -> None:
    """At a rate of next to nothing all five steps cost alike: times 0.01, 0.2, 0.4, 0.6 and 0.8."""
    rows = {}
    for terms in ("boundary", "boundary(ramp=1)"):
        recipe = make_recipe(
            {
                "model.width": 4,
                "model.depth": 1,
                "input.size": 24,
                "train.batch": 8,
                "train.epochs": 1,
                "train.precision": "fp32",
                "optim.learning_rate": 1e-12,
                "loss.terms": terms,
            }
        )
        folder = tmp_path / terms
        folder.mkdir()
        train(recipe, open_dataset(discs), RunFolder(folder), device="cpu")
        (rows[terms],) = RunFolder(folder).read_metrics()
    plain, ramped = rows["boundary"], rows["boundary(ramp=1)"]
    assert ramped["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-4)
    assert ramped["train_loss"] / plain["train_loss"] == pytest.approx(2.01 / 5, rel=0.2)
