"""What every network of ours must do, with all its parts at once: any size, any channels, bf16, gradients, graphs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import build_model, flops, parameters

EVERYTHING: dict[str, Any] = {
    "attention": ["gate", "channel", "spatial"],
    "bottleneck": ["aspp", "transformer"],
    "deep_supervision": "fused",
}
FAMILIES: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "width": 8, "depth": 2, **EVERYTHING},
    "unet subpixel": {"name": "unet", "width": 8, "depth": 2, "upsample": "subpixel", **EVERYTHING},
    "wide": {"name": "resnet34-unet", "decoder": "wide", **EVERYTHING},
    "narrow": {"name": "resnet34-unet", "decoder": "narrow", "width": 16, **EVERYTHING},
    "unet decoder": {"name": "resnet34-unet", "decoder": "unet", **EVERYTHING},
    "unetplusplus": {"name": "unetplusplus", "width": 8, "depth": 2, "deep_supervision": "fused"},
    "dual-unet": {"name": "dual-unet", "width": 4, "deep_supervision": "fused"},
}
RESNETS = ("wide", "narrow", "unet decoder")
every_family = pytest.mark.parametrize("family", FAMILIES)
every_light_family = pytest.mark.parametrize("family", [name for name in FAMILIES if name not in RESNETS])


def build(family: str, in_channels: int = 3, classes: int = 2, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        in_channels=in_channels, classes=classes, name_or_config="unet", **(FAMILIES[family] | changes)
    )


@pytest.mark.parametrize(
    ("name", "changes", "tensors", "names", "size"),
    [
        ("unet", {"width": 4}, 118, "3b3aa1113dea", 122_093),
        ("unet", {"width": 4, "norm": "none", "upsample": "subpixel", "depth": 3}, 36, "921424fc9cd5", 51_953),
        ("resnet34-unet", {"decoder": "wide"}, 274, "4cc6c6d4a8a0", 24_424_833),
        ("resnet34-unet", {"decoder": "narrow"}, 284, "bb3f51c694d3", 21_827_073),
        ("resnet34-unet", {"decoder": "unet"}, 302, "443241a3b9e3", 47_778_753),
    ],
)  # fmt: skip
def test_the_tensors_of_plain_networks_keep_names_and_shapes(
    name: str, changes: dict[str, Any], tensors: int, names: str, size: int
) -> None:
    """Model folders written before there were parts must load: these hashes are older than the parts."""
    model = build_model(name, 3, 2, **changes)
    lines = sorted(f"{key} {tuple(tensor.shape)}" for key, tensor in model.state_dict().items())
    assert (len(lines), parameters(model)) == (tensors, size)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] == names


@every_family
@pytest.mark.parametrize(
    ("in_channels", "classes", "outputs", "channels", "size"),
    [(1, 2, "auto", 1, (97, 131)), (4, 12, "auto", 12, (33, 40)), (3, 2, "softmax", 2, (1, 1))],
)
def test_any_size_and_any_channels(
    family: str, in_channels: int, classes: int, outputs: str, channels: int, size: tuple[int, int]
) -> None:
    model = build(family, in_channels, classes, outputs=outputs).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, in_channels, *size))
    assert logits.shape == (1, channels, *size)
    assert logits.isfinite().all()


@every_family
def test_gradient_reaches_every_parameter(family: str) -> None:
    model = build(family, classes=3)
    side = 64 if family in RESNETS else 32
    outputs = model(torch.randn(2, 3, side, side))
    torch.autograd.backward(sum(((output - 1).square().mean() for output in outputs), torch.zeros(())))
    for name, tensor in model.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.any(), name


@every_light_family
def test_bf16_autocast_agrees_and_keeps_channels_last(family: str) -> None:
    model = build(family, norm="group").to(memory_format=torch.channels_last).eval()
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    full = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).std() < 0.05 * full.std()  # 8 bits of mantissa, through two dozen layers
    torch.autograd.backward(half.float().square().mean())


@every_light_family
def test_one_picture_of_a_batch_has_no_influence_on_another(family: str) -> None:
    model = build(family).eval()
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


def test_flops_count_attention_between_pixels_too() -> None:
    """Two layers of 64 tokens of 32 channels: scores and mixtures, 2 x 64 x 64 x 32 multiplications each layer."""
    size, width, tokens, channels = (32, 32), 8, 8 * 8, 32
    plain = flops(build_model("unet", 3, 2, width=width, depth=2), size, 3)
    found = flops(build_model("transformer-unet", 3, 2, width=width, depth=2), size, 3) - plain
    linear = tokens * channels**2 * (3 + 1 + 8)
    assert found == 2 * 2 * (linear + 2 * tokens**2 * channels)


def training_loss(outputs: Tensor | list[Tensor], labels: Tensor) -> Tensor:
    levels = [outputs] if isinstance(outputs, Tensor) else outputs
    full = [F.interpolate(level, size=labels.shape[-2:], mode="bilinear") for level in levels]
    return torch.stack([F.binary_cross_entropy_with_logits(level, labels) for level in full]).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [name if name in RESNETS else pytest.param(name, marks=pytest.mark.ci) for name in FAMILIES]
)
def test_it_overfits_four_pictures(family: str) -> None:
    model = build(family, 1)
    side, blob = (64, 17) if family in RESNETS else (32, 9)
    images = torch.rand(4, 1, side, side)
    labels = (F.avg_pool2d(images, blob, stride=1, padding=blob // 2) > 0.47).float()
    assert 0.2 < labels.mean() < 0.8
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3 if family in RESNETS else 3e-3)
    for _ in range(60 if family in RESNETS else 150):
        optimiser.zero_grad()
        torch.autograd.backward(training_loss(model(images), labels))
        optimiser.step()
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    with torch.no_grad():
        assert ((model(images)[0] > 0) == (labels > 0)).float().mean() > 0.95


@pytest.mark.slow
@pytest.mark.ci
@every_light_family
@pytest.mark.parametrize("training", [False, True])
def test_it_is_one_graph(family: str, training: bool) -> None:
    """torch.compile finds nothing that it must leave out; its back-end is not at issue here."""
    model = build(family).train(training)
    images = torch.randn(2, 3, 20, 28)
    expected = model(images)
    found = torch.compile(model, fullgraph=True, backend="eager")(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("family", ["unet", "narrow", "unetplusplus", "dual-unet"])
def test_it_exports(family: str) -> None:
    model = build(family).eval()
    images = torch.randn(1, 3, 33, 40)
    exported = torch.export.export(model, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-4)
