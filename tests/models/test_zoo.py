"""Models by name, and weights that others trained: placed by hand, or not to be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskwright.config import ModelConfig
from maskwright.errors import ConfigError, UserError
from maskwright.models import MODELS, build_model, output_channels
from maskwright.models.resnet34_unet import ResNet34UNet
from maskwright.models.zoo import adapt_first_conv, placed_file


def weights_file(path: Path) -> Path:
    """What timm's resnet34 would be saved as, classifier included, with figures that are not the fresh ones."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    weights = timm.create_model("resnet34", pretrained=False).state_dict()
    weights = {k: torch.rand_like(v) + 0.5 if v.ndim == 1 else v for k, v in weights.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def build(source: str, in_channels: int = 3) -> ResNet34UNet:
    model = build_model("resnet34-unet", in_channels, 2, encoder_weights=source)
    assert isinstance(model, ResNet34UNet)
    return model.eval()


def test_a_placed_file_is_used_for_imagenet_and_gives_timms_features() -> None:
    timm = pytest.importorskip("timm")
    path = weights_file(placed_file())
    theirs = timm.create_model(
        "resnet34", pretrained=True, features_only=True, pretrained_cfg_overlay={"file": str(path)}
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours = build("imagenet").encoder(images)
        for own, other in zip((ours.half, *ours[2:]), theirs(images), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_a_grey_picture_gives_what_its_grey_rgb_copy_gives(tmp_path: Path) -> None:
    path = weights_file(tmp_path / "resnet34.safetensors")
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        one, three = build(str(path), in_channels=1), build(str(path))
        a, b = one.encoder(grey).quarter, three.encoder(grey.expand(-1, 3, -1, -1)).quarter
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


def test_more_channels_take_turns_and_keep_the_sum() -> None:
    weight = torch.arange(6, dtype=torch.float32).view(2, 3, 1, 1)
    five = adapt_first_conv(weight, 5)
    assert torch.equal(five[0].flatten(), torch.tensor([0.0, 1, 2, 0, 1]) * 3 / 5)
    six = adapt_first_conv(weight, 6)
    assert torch.equal(six.sum(1), weight.sum(1))
    assert adapt_first_conv(weight, 3) is weight


def test_the_encoder_of_a_saved_model_loads(tmp_path: Path) -> None:
    first = build_model("resnet34-unet", 4, 2, decoder="wide")
    path = tmp_path / "model.safetensors"
    save_file(first.state_dict(), path)
    second = build(str(path), in_channels=4)
    for name, tensor in second.encoder.named_parameters():
        assert torch.equal(tensor, first.state_dict()[f"encoder.{name}"]), name


@pytest.mark.parametrize(
    ("name", "encoder", "repository"),
    [
        ("resnet34-unet", "resnet34", "timm/resnet34.a1_in1k"),
        pytest.param("fpn:test_resnet", "test_resnet", "timm/test_resnet.r160_in1k", marks=pytest.mark.slow),
    ],
)
def test_imagenet_out_of_reach_names_the_file_to_place_within_seconds(
    name: str, encoder: str, repository: str, cache: Path, tmp_path: Path
) -> None:
    """In a process of its own, with a proxy where nobody listens: this machine's network has no say."""
    theirs = "segmentation_models_pytorch" if ":" in name else "huggingface_hub"
    code = (
        f"import time, {theirs}\n"
        "from maskwright.errors import UserError\n"
        "from maskwright.models import build_model\n"
        "began = time.monotonic()\n"
        f"try: build_model({name!r}, 3, 2, encoder_weights='imagenet')\n"
        "except UserError as error: print(time.monotonic() - began, error)\n"
    )
    nobody = "http://127.0.0.1:9"
    environment = {
        "MASKWRIGHT_CACHE": str(cache),
        "HF_HOME": str(tmp_path),
        "PATH": "",
        **dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), nobody),
    }
    for extra in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        seconds, _, says = done.stdout.partition(" ")
        assert says.startswith(f"the ImageNet weights {repository} cannot be fetched")
        assert f"place its model.safetensors at {cache}/weights/{encoder}.safetensors" in says
        assert says.count("\n") == 1
        assert float(seconds) < 15  # the hub's own retries wait for 23


def test_bad_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.safetensors cannot be read"):
        build(str(tmp_path / "absent.safetensors"))
    pickle = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, pickle)
    with pytest.raises(ConfigError, match=r"weights\.pth are not a safetensors file; .*pickles"):
        build(str(pickle))
    other = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, other)
    with pytest.raises(ConfigError, match=r"other\.safetensors hold no bn1\.weight"):
        build(str(other))
    save_file({"conv1.weight": torch.zeros(32, 3, 3, 3)}, other)
    with pytest.raises(ConfigError, match=r"hold \(32, 3, 3, 3\) as conv1\.weight; the encoder needs \(64"):
        build(str(other))


def test_a_model_without_such_an_encoder_says_so() -> None:
    with pytest.raises(ConfigError, match=r"use model\.name=resnet34-unet"):
        build_model("unet", 3, 2, encoder_weights="imagenet")


def test_names_and_changes_are_checked() -> None:
    with pytest.raises(ConfigError, match="there is no model 'resnet34_unet'; did you mean resnet34-unet"):
        build_model("resnet34_unet", 3, 2)
    with pytest.raises(ConfigError, match="a model has no 'widht'; did you mean width"):
        build_model("unet", 3, 2, widht=8)
    with pytest.raises(ConfigError, match=r"model\.width=-3"):
        build_model("unet", 3, 2, width=-3)


def test_every_name_builds_from_a_config() -> None:
    for name in MODELS:
        model = build_model(ModelConfig(name=name, width=4), 1, 3).eval()
        with torch.no_grad():
            assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("outputs", "classes", "channels"),
    [("auto", 2, 1), ("auto", 3, 3), ("sigmoid", 2, 1), ("softmax", 2, 2), ("softmax", 11, 11)],
)
def test_output_channels(outputs: str, classes: int, channels: int) -> None:
    assert output_channels(ModelConfig.model_validate({"outputs": outputs}), classes) == channels


@pytest.mark.parametrize(("outputs", "classes"), [("sigmoid", 3), ("auto", 1)])
def test_impossible_outputs(outputs: str, classes: int) -> None:
    with pytest.raises(UserError, match=r"sigmoid is for two classes|background"):
        output_channels(ModelConfig.model_validate({"outputs": outputs}), classes)


def test_importing_the_models_imports_nobody_elses() -> None:
    code = (
        "import sys, maskwright.models, maskwright.losses\n"
        "others = {'timm', 'segmentation_models_pytorch', 'huggingface_hub', 'matplotlib', 'accelerate'}\n"
        "print(sorted(others & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
