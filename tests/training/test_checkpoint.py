"""The state on disk: the same bits back, the old state whole when a save fails, clear words for damage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from maskwright.config import OptimConfig
from maskwright.errors import RunError
from maskwright.training.checkpoint import has_state, load_state, save_state
from maskwright.training.optim import make_optimiser
from maskwright.training.step import Counters, TrainState


def trained_state(seed: int, steps: int = 3) -> TrainState:
    """A small network after a few real steps of AdamW."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    averaged = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    optimiser = make_optimiser(model, OptimConfig())
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(2, 1, 8, 8)).square().mean().backward()
        optimiser.step()
    best = {name: value.clone() for name, value in model.state_dict().items()}
    counters = Counters(
        epoch=2,
        step=steps,
        loss_sum=0.1 + 0.2,
        best_value=1 / 3,
        best_epoch=2,
        rows=[{"epoch": 1.0, "val_loss": 2 / 3}],
    )
    return TrainState(model, optimiser, averaged, None, counters, best)


def assert_same(one: TrainState, other: TrainState) -> None:
    assert one.counters == other.counters
    assert one.averaged is not None
    assert other.averaged is not None
    for a, b in ((one.model, other.model), (one.averaged, other.averaged)):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name
    for index, entry in one.optimiser.state_dict()["state"].items():
        for key, value in entry.items():
            assert torch.equal(value, other.optimiser.state_dict()["state"][index][key]), key
    assert all(torch.equal(value, other.best[name]) for name, value in one.best.items())


def test_the_same_bits_come_back(tmp_path: Path) -> None:
    state, fresh = trained_state(seed=1), trained_state(seed=2, steps=0)
    save_state(tmp_path, state)
    load_state(tmp_path, fresh)
    assert_same(state, fresh)


def test_slots_alternate_and_the_newest_counts(tmp_path: Path) -> None:
    first, second = trained_state(seed=1), trained_state(seed=2)
    second.counters.best_epoch = 3
    save_state(tmp_path, first)
    save_state(tmp_path, second)
    fresh = trained_state(seed=3, steps=0)
    load_state(tmp_path, fresh)
    assert_same(second, fresh)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["epoch-0003.safetensors"]
    assert {path.name for path in (tmp_path / "last").iterdir()} == {"a", "b", "current"}


def test_a_slot_that_was_being_written_is_not_read(tmp_path: Path) -> None:
    """The slot beside the pointer may hold anything: a kill left it half written."""
    state = trained_state(seed=1)
    save_state(tmp_path, state)
    other = tmp_path / "last" / ("b" if (tmp_path / "last" / "current").read_text() == "a" else "a")
    other.mkdir(exist_ok=True)
    (other / "state.safetensors").write_bytes(b"half")
    fresh = trained_state(seed=2, steps=0)
    load_state(tmp_path, fresh)
    assert_same(state, fresh)


def test_without_a_state_there_is_a_clear_word(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    with pytest.raises(RunError, match="holds no training state"):
        load_state(tmp_path, trained_state(seed=1))


def test_damage_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, trained_state(seed=1))
    slot = tmp_path / "last" / (tmp_path / "last" / "current").read_text()
    content = (slot / "state.safetensors").read_bytes()
    (slot / "state.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="damaged"):
        load_state(tmp_path, trained_state(seed=2))


def test_another_network_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, trained_state(seed=1))
    wider = trained_state(seed=1)
    wider.model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 1, 1))
    with pytest.raises(RunError, match=r"does not fit its recipe\.yaml"):
        load_state(tmp_path, wider)


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_checkpoint import trained_state
from maskwright.errors import RunError
from maskwright.training.checkpoint import save_state

folder = Path(sys.argv[1])
save_state(folder, trained_state(seed=1))
# The operating system itself refuses to make a file larger than this, as a full disk does.
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
later = trained_state(seed=2)
later.counters.best_epoch = 9
try:
    save_state(folder, later)
except RunError as error:
    print(error)
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), here], capture_output=True, text=True, check=True
    )
    assert "could not be written" in done.stdout
    assert "what was saved before is still whole" in done.stdout
    fresh = trained_state(seed=3, steps=0)
    load_state(tmp_path, fresh)
    assert_same(trained_state(seed=1), fresh)
    assert not list(tmp_path.rglob("*.partial"))
