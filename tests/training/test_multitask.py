"""Edge head and dense targets through the whole of training: aligned, learnt, resumed to the bit, and left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from maskwright.config import AugmentConfig, make_recipe
from maskwright.data.dataset import open_dataset
from maskwright.data.store import prepare
from maskwright.errors import DataError
from maskwright.fit import Fit
from maskwright.models import build_model
from maskwright.predict.predictor import Predictor
from maskwright.progress import SILENT
from maskwright.runfolder import RunFolder
from maskwright.tensors import Outputs
from maskwright.training import loop
from maskwright.training.begin import assemble, first_state
from maskwright.training.checkpoint import has_state
from maskwright.training.device import make_accelerator
from maskwright.training.epoch import validate
from maskwright.training.step import (
    Machinery,
    TrainState,
    judging,
    load_batch,
    load_target,
    predict_rows,
    train_step,
)

MULTI: dict[str, object] = {
    "model.width": 4,
    "model.depth": 2,
    "input.size": 16,
    "input.channels": 1,
    "train.batch": 6,
    "train.epochs": 2,
    "train.precision": "fp32",
    "loss.edge": 0.4,
    "loss.targets.depth": "0.5*huber",
}


def begin(data: Path, changes: Mapping[str, object] | None = None) -> tuple[Machinery, TrainState]:
    """What a run is made of, before its first step."""
    recipe, dataset = make_recipe({**MULTI, **(changes or {})}), open_dataset(data)
    store = prepare(dataset, recipe.input)
    machinery, spec = assemble(recipe, dataset, store, make_accelerator("cpu", "fp32"))
    state = first_state(machinery, spec, None, SILENT)
    state.counters.micro_batch, state.counters.total_steps = 6, 100
    return machinery, state


def run(
    data: Path, folder: Path, changes: Mapping[str, object] | None = None, **options: object
) -> RunFolder:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = make_recipe({**MULTI, **(changes or {})})
    loop.train(recipe, open_dataset(data), RunFolder(folder), device="cpu", **options)  # type: ignore[arg-type]
    return RunFolder(folder)


EVERY_WAY = AugmentConfig(
    flip=True,
    flip_vertical=True,
    rotate=45,
    scale=0.2,
    shift=0.2,
    shear=10,
    crop=0.8,
    elastic=0.04,
    probability=0.7,
    mixup=0.4,
    cutmix=1,
)


def link_slopes(slopes: Path, root: Path, *, targets: str) -> None:
    """Pictures and masks of `slopes`, other targets."""
    for kind in ("images", "masks", "depth"):
        (root / kind).symlink_to(slopes / kind)
    described = (slopes / "dataset.yaml").read_text().splitlines()
    described[2] = f"targets: {targets}"
    (root / "dataset.yaml").write_text("\n".join(described))


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop"])
def test_a_target_that_is_a_function_of_the_picture_stays_it(slopes: Path, tmp_path: Path, fit: Fit) -> None:
    """depth = 3 * grey + 7 on disk. Everything on the way is linear, so it holds at the end too, up to the store's
    rounding of grey levels; but near what is unknown, where the picture fades into its frame. A second target knows
    nothing in a band of three pixels there, and travels along."""
    link_slopes(slopes, tmp_path, targets='{depth: "depth/{id}.npy", far: "far/{id}.npy"}')
    (tmp_path / "far").mkdir()
    for file in (slopes / "depth").glob("*.npy"):
        inner = np.full((32, 32), np.nan)
        inner[3:-3, 3:-3] = np.load(file)[3:-3, 3:-3]
        inner[:7, :7] = np.nan
        np.save(tmp_path / "far" / file.name, inner)
    size = [28, 24] if fit == "crop" else [32, 40]
    machinery, _ = begin(tmp_path, {"input.size": size, "input.fit": fit, "loss.targets.far": "l1"})
    # A window's frame is known to be near only as long as no box is pasted over what lies beyond it.
    ways = EVERY_WAY.model_copy(update={"cutmix": 0}) if fit == "crop" else EVERY_WAY
    machinery = replace(machinery, recipe=machinery.recipe.model_copy(update={"augment": ways}))
    moments, rows = machinery.store.targets["depth"], machinery.store.rows("train")
    for epoch in range(10):
        batch = load_batch(machinery, rows, np.zeros_like(rows), epoch, 1.0)
        assert batch.target.dense is not None
        depth = batch.target.dense[:, :1] * moments.deviation + moments.mean
        far = ~batch.target.dense[:, 1:].isnan()
        if fit == "crop":
            unknown = F.pad(depth.isnan().float(), (2, 2, 2, 2), value=1.0)
            far &= F.max_pool2d(unknown, 5, stride=1) == 0
        off = (depth - (3 * 255 * batch.images + 7)).abs()
        assert 0.3 < far.float().mean() < (~depth.isnan()).float().mean() < 1
        assert off[far].max() < 3 * 0.5 + 0.1


def test_validation_reports_the_error_in_the_targets_own_units(slopes: Path) -> None:
    machinery, state = begin(slopes)
    scores = validate(state.model, machinery, 4)
    rows, moments = machinery.store.rows("validation"), machinery.store.targets["depth"]
    with judging(state.model):
        logits, answers = predict_rows(state.model, machinery, rows)
    assert answers is not None
    assert (logits.shape, answers.shape) == ((6, 1, 16, 16), (6, 2, 16, 16))
    assert state.model.training
    said = answers[:, 1:].numpy() * moments.deviation + moments.mean
    off = np.abs(said - machinery.store.dense(rows, ["depth"]))
    assert np.isnan(off).any()
    assert scores["val_depth_mae"] == pytest.approx(np.nanmean(off), rel=1e-5)
    target = load_target(machinery, rows)
    whole = machinery.loss(Outputs(logits, answers), target).item()
    assert whole > machinery.loss(logits, target).item()
    assert scores["val_loss"] == pytest.approx(whole, rel=0.2)  # of batches of 4 and 2


def test_parts_of_a_batch_add_up_to_the_whole(slopes: Path) -> None:
    """With losses that are means over as many pixels in each part; those of edges are not, as Dice is not."""
    changes = {"loss.edge": 0, "loss.terms": "ce", "model.norm": "none", "optim.clip": 0, "input.size": 32}
    gradients = []
    for micro_batch in (6, 2):
        machinery, state = begin(slopes, {**changes, "augment.flip": False})
        state.counters.micro_batch = micro_batch
        train_step(state, machinery, machinery.store.rows("train")[:6], np.zeros(6, int))
        gradients.append(state.model.get_submodule("auxiliary").get_parameter("head.weight").grad)
    assert gradients[0] is not None
    assert gradients[0].any()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_the_model_folder_is_that_of_a_plain_network(slopes: Path, tmp_path: Path) -> None:
    folder = run(slopes, tmp_path / "run", {"optim.ema": 0.9, "model.deep_supervision": "fused"})
    kept = load_file(folder.model / "model.safetensors")
    plain = build_model("unet", 1, 2, width=4, depth=2, deep_supervision="fused")
    assert kept.keys() == plain.state_dict().keys()
    assert Predictor.load(folder.path, "cpu")(np.zeros((20, 30), np.uint8)).mask.shape == (20, 30)
    rows = folder.read_metrics()
    assert list(rows[0])[-1] == "val_depth_mae"
    assert 0 < rows[-1]["val_depth_mae"] < 1000
    assert "MAE of depth" in folder.log_file.read_text()


@pytest.mark.parametrize("deep_supervision", ["none", "fused"])
def test_interrupted_and_resumed_is_the_uninterrupted_run(
    slopes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep_supervision: str
) -> None:
    """Stopped between two steps of the second epoch; weights, averages and all figures end as if it had not been."""
    changes = {
        "optim.ema": 0.9,
        "augment.mixup": 0.4,
        "augment.cutmix": 1,
        "augment.rotate": 20,
        "model.dropout": 0.2,
        "model.deep_supervision": deep_supervision,
        "train.epochs": 3,
    }
    whole = run(slopes, tmp_path / "whole", changes)

    class Stopped(Exception):
        pass

    def stop(state: TrainState, machinery: Machinery, rows: np.ndarray, copies: np.ndarray) -> None:
        if state.counters.step == 4:
            raise Stopped
        train_step(state, machinery, rows, copies)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stop)
        with pytest.raises(Stopped):
            run(slopes, tmp_path / "part", changes, checkpoint_every=0.0)
    assert has_state(tmp_path / "part" / "checkpoints")
    part = run(slopes, tmp_path / "part", changes, resume=True)
    for file in ("model/model.safetensors", "checkpoints/last/{}/state.safetensors"):
        one, other = (
            load_file(folder.path / file.format((folder.checkpoints / "last" / "current").read_text()))
            for folder in (whole, part)
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items()), file
    assert any("auxiliary.head" in name for name in one)
    figures = ("train_loss", "val_loss", "val_depth_mae")
    assert [[row[name] for name in figures] for row in whole.read_metrics()] == [
        [row[name] for name in figures] for row in part.read_metrics()
    ]


def test_a_target_of_which_training_knows_nothing(slopes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for index in range(24):
        np.save(tmp_path / "empty" / f"{index:02}.npy", np.full((32, 32), np.nan))
    link_slopes(slopes, tmp_path, targets='{depth: "empty/{id}.npy"}')
    with pytest.raises(DataError, match=r"no training picture of .* knows a value of the target depth"):
        begin(tmp_path)


@pytest.mark.slow
@pytest.mark.ci
def test_it_learns_depth_and_edges(slopes: Path, tmp_path: Path) -> None:
    """Far better than the best constant, while the masks are learnt as well."""
    changes = {
        "model.width": 8,
        "train.epochs": 60,
        "optim.learning_rate": 5e-3,
        "input.size": 32,
        "input.normalise": "unit",
    }
    row = run(slopes, tmp_path / "run", changes).read_metrics()[-1]
    store = begin(slopes, changes)[0].store
    train, validation = (store.dense(store.rows(split), ["depth"]) for split in ("train", "validation"))
    constant = np.nanmean(np.abs(validation - np.nanmedian(train)))
    assert row["val_depth_mae"] < 0.4 * constant
    assert row["val_dice_image"] > 0.9
