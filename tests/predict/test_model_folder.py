"""A model folder gives back the bits it was given, and refuses what is not one of ours."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.config import InputConfig, ModelConfig
from maskwright.errors import RunError
from maskwright.predict.model_folder import (
    ModelSpec,
    WithoutMemory,
    build_from_spec,
    find_model,
    load_model,
    load_spec,
    preprocess_from_spec,
    save_model,
)


def small_spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "model": ModelConfig(name="unet", width=4, depth=2),
        "input": InputConfig(size=(32, 48), channels=3),
        "classes": ("background", "pet"),
        "colours": ((0, 0, 0), (230, 159, 0)),
        "mean": (0.4, 0.5, 0.6),
        "deviation": (0.2, 0.2, 0.3),
        "fingerprint": "0123456789ab",
        "epoch": 7,
    }
    return ModelSpec(**(values | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_model(tmp_path / "run" / "model", small_spec(), build_from_spec_with_new_weights().state_dict())
    return tmp_path / "run" / "model"


def build_from_spec_with_new_weights() -> torch.nn.Module:
    """Figures of batch norm as after training: at their start they would hide a loss of state."""
    network = build_from_spec(small_spec())
    generator = torch.Generator().manual_seed(5)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator))
    return network


def tamper(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_what_is_saved_is_loaded_bit_for_bit(folder: Path) -> None:
    spec, network = load_model(folder)
    assert spec == small_spec()
    assert not network.training
    before, after = build_from_spec_with_new_weights().state_dict(), network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    images = torch.rand(1, 3, 32, 48)
    expected = build_from_spec_with_new_weights().eval()(images)
    assert torch.equal(network(images), expected)


def test_weights_in_another_memory_order_are_saved_as_well(tmp_path: Path) -> None:
    network = build_from_spec(small_spec()).to(memory_format=torch.channels_last)
    save_model(tmp_path, small_spec(), network.state_dict())
    loaded = load_model(tmp_path)[1].state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_loading_leaves_the_random_state_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_model(folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_input_side_is_that_of_training(folder: Path) -> None:
    preprocess = preprocess_from_spec(load_spec(folder))
    assert (preprocess.size, preprocess.fit, preprocess.kind) == ((32, 48), "resize", "imagenet")


def test_a_run_a_model_and_a_name_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(folder) == folder
    assert find_model(folder.parent) == folder
    (folder.parent.parent / "runs").mkdir()
    folder.parent.rename(folder.parent.parent / "runs" / "pets")
    monkeypatch.chdir(folder.parent.parent)
    assert find_model("pets") == Path("runs/pets/model")


def test_what_is_no_model_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run or model"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(RunError, match="neither a run nor a model folder"):
        find_model(tmp_path)
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    with pytest.raises(RunError, match="has no model yet"):
        find_model(tmp_path)


TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "newer format": (lambda c: c.update(format=2), "has format 2"),
    "no format": (lambda c: c.pop("format"), "has format None"),
    "unknown key": (lambda c: c.update(run_this="x"), "run_this"),
    "unknown model": (lambda c: c["model"].update(name="evil"), "evil"),
    "other width": (lambda c: c["model"].update(width=8), "does not fit its config.json"),
    "huge width": (lambda c: c["model"].update(width=10**9), "filters"),
    "huge and deeper than it says": (
        lambda c: c["model"].update(name="dual-unet", width=2048, depth=1),
        "filters",
    ),
    "huge size": (lambda c: c["input"].update(size=[10**6, 8]), "input.size"),
    "other classes": (lambda c: c.update(classes=["a", "b", "c"], colours=[[0, 0, 0]] * 3), "does not fit"),
    "colours missing": (lambda c: c.update(colours=[[0, 0, 0]]), "1 colours for 2 classes"),
    "colour over 255": (lambda c: c.update(colours=[[0, 0, 256], [0, 0, 0]]), "colours"),
    "one class": (lambda c: c.update(classes=["a"], colours=[[0, 0, 0]]), "classes"),
    "channels and means": (lambda c: c["input"].update(channels=1), "3 means for 1 channels"),
    "auto channels": (lambda c: c["input"].update(channels="auto"), "auto channels"),
    "a mean that is no number": (lambda c: c.update(mean=[float("nan")] * 3), "mean"),
    "threshold over 1": (lambda c: c.update(threshold=2), "threshold"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_config_is_refused(folder: Path, case: str) -> None:
    change, message = TAMPERED[case]
    tamper(folder, change)
    with pytest.raises(RunError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "7", " " * (1 << 20) + "{}"])
def test_a_config_that_is_no_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_weights_cut_short_are_an_error_that_names_the_file(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_model(folder)


def test_weights_that_are_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is missing"):
        load_model(folder)


def test_a_pickle_in_place_of_the_weights_is_never_opened(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
            return (open, (str(tmp_path / "was-run"), "w"))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(RunError, match="damaged"):
        load_model(folder)
    assert not (tmp_path / "was-run").exists()


def test_pretrained_weights_are_not_fetched_again(folder: Path) -> None:
    """The trained weights replace them; a model folder must open without a network."""
    tamper(folder, lambda c: c["model"].update(encoder_weights="imagenet"))
    load_model(folder)
    spec = small_spec(model=ModelConfig(name="resnet34-unet", encoder_weights="imagenet", width=8))
    build_from_spec(spec)


ZOO = [
    "segformer:mit_b0",
    "dpt:test_vit",
    "upernet:test_convnext",
    "fpn:test_efficientnet",
    "setr-pup:test_vit",
]


@pytest.mark.parametrize(
    "name",
    [
        *("unet", "aspp-gate-unet", "transformer-unet", "subpixel-unet"),
        *("resnet34-unet", "unetplusplus", "dual-unet", "fpn:test_resnet"),
        *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.ci]) for name in ZOO),
    ],
)
def test_every_family_has_its_shapes_without_memory(name: str) -> None:
    width, depth = (32, 4) if ":" in name else (4, 2)
    deep = "none" if ":" in name or name == "transformer-unet" else "fused"
    config = ModelConfig.model_validate(
        {"name": name, "width": width, "depth": depth, "deep_supervision": deep}
    )
    spec = small_spec(model=config)
    with WithoutMemory():
        shadow = build_from_spec(spec)
    assert all(tensor.is_meta for tensor in shadow.parameters())
    found, expected = shadow.state_dict(), build_from_spec(spec).state_dict()
    assert [(name, t.shape) for name, t in found.items()] == [(name, t.shape) for name, t in expected.items()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figure of the largest memory so far")
def test_a_huge_network_is_refused_before_it_has_memory(folder: Path) -> None:
    """A billion parameters, four gigabytes, over the weights of a small one."""
    resource = pytest.importorskip("resource")
    build_from_spec(small_spec(model=ModelConfig(name="setr-naive:test_vit")))  # imports take memory
    tamper(folder, lambda c: c["model"].update(name="setr-naive:vit_giant_patch14_224", width=32, depth=4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match=r"does not fit its config\.json: .* where setr-naive:vit_giant"):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_network_of_the_zoo_comes_back_bit_for_bit(tmp_path: Path) -> None:
    spec = small_spec(model=ModelConfig(name="fpn:test_resnet"))
    torch.manual_seed(1)
    network = build_from_spec(spec).eval()
    save_model(tmp_path, spec, network.state_dict())
    loaded, images = load_model(tmp_path)[1], torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


LOADED = """
import subprocess
import sys
from pathlib import Path
from maskwright.predict.model_folder import load_model
load_model(Path(sys.argv[1]))
print([name for name in ("torch._dynamo", "sympy", "scipy") if name in sys.modules])
"""


@pytest.mark.slow
def test_loading_a_model_loads_no_compiler(tmp_path: Path) -> None:
    """200 MB and some seconds that torch takes to fill weights without memory with random numbers."""
    spec = small_spec()
    save_model(tmp_path, spec, build_from_spec(spec).state_dict())
    words = [sys.executable, "-c", LOADED, str(tmp_path)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "[]"
