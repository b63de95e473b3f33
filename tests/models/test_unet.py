"""UNet against an implementation written from the figure alone, and against the paper's size."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import build_model, flops, parameters
from maskwright.models.unet import UNet


def plain_unet(weights: Mapping[str, Tensor], images: Tensor, depth: int, *, gated: bool = False) -> Tensor:
    """The figure of Ronneberger et al. with padded convolutions, as calls of torch's functions.

    Gated: that of Oktay et al. 2018 (figures 1 and 2), each gate asked by the level below its skip.
    """

    def double(prefix: str, x: Tensor) -> Tensor:
        for part in "01":
            x = F.relu(
                F.conv2d(
                    x, weights[f"{prefix}.{part}.0.weight"], weights[f"{prefix}.{part}.0.bias"], padding=1
                )
            )
        return x

    def gate(prefix: str, skip: Tensor, coarse: Tensor) -> Tensor:
        seen = F.conv2d(skip, weights[f"{prefix}.w_x.weight"], stride=2)
        asked = F.conv2d(coarse, weights[f"{prefix}.w_g.weight"], weights[f"{prefix}.w_g.bias"])
        joint = F.relu(seen + asked)
        open_ = F.conv2d(joint, weights[f"{prefix}.psi.weight"], weights[f"{prefix}.psi.bias"]).sigmoid()
        return skip * F.interpolate(open_, scale_factor=2, mode="bilinear")

    x, skips = images, []
    for level in range(depth):
        x = double(f"encoder.{level}", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = double("bottleneck.0", x)
    for level in range(depth):
        up, skip = f"decoder.{level}.up", skips.pop()
        skip = gate(f"decoder.{level}.attend.0", skip, x) if gated else skip
        x = F.conv_transpose2d(x, weights[f"{up}.weight"], weights[f"{up}.bias"], stride=2)
        x = double(f"decoder.{level}.conv", torch.cat([skip, x], dim=1))
    return F.conv2d(x, weights["head.weight"], weights["head.bias"])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_it_is_the_unet_of_the_figure(depth: int, gated: bool) -> None:
    """With its gradient; gated, it is the Attention U-Net."""
    torch.manual_seed(0)
    model = UNet(3, 2, width=4, depth=depth, attention=["gate"] if gated else []).double()
    for tensor in model.parameters():
        nn.init.normal_(tensor, std=0.3)
    images = torch.randn(2, 3, 24, 16, dtype=torch.float64, requires_grad=True)
    weights = dict(model.named_parameters())
    ours, plain = model(images), plain_unet(weights, images, depth, gated=gated)
    torch.testing.assert_close(ours, plain)
    inputs, pull = [images, *weights.values()], torch.randn_like(plain)
    for found, right in zip(
        torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(plain, inputs, pull), strict=True
    ):
        torch.testing.assert_close(found, right)


def double_conv_size(channels: int, out: int) -> int:
    return 9 * channels * out + out + 9 * out * out + out


def test_the_papers_size_is_31_million_parameters() -> None:
    """Ronneberger et al. 2015 from 1 to 2 channels: 23 convolutional layers, the widely cited 31.0 M."""
    widths = [64, 128, 256, 512, 1024]
    down = sum(double_conv_size(a, b) for a, b in zip([1, *widths], widths, strict=False))
    up = sum(4 * 2 * w * w + w + double_conv_size(2 * w, w) for w in widths[:-1])
    model = UNet(1, 2)
    assert parameters(model) == down + up + 2 * 64 + 2
    assert round(parameters(model) / 1e6, 1) == 31.0
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23


def test_norm_replaces_biases_and_adds_two_numbers_per_channel() -> None:
    plain = build_model("unet", 1, 2, width=8, depth=1, norm="none")
    batch = build_model("unet", 1, 2, width=8, depth=1, norm="batch")
    assert parameters(batch) - parameters(plain) == 2 * (8 + 16 + 8)  # two convolutions each, one more number


def test_flops_are_two_per_multiplication() -> None:
    model = UNet(3, 1, width=8, depth=1)
    full, half = 32 * 48, 16 * 24
    level = 9 * (3 * 8 + 8 * 8) * full
    bottom = 9 * (8 * 16 + 16 * 16) * half
    up = 4 * 16 * 8 * half + 9 * (16 * 8 + 8 * 8) * full
    assert flops(model, (32, 48), in_channels=3) == 2 * (level + bottom + up + 8 * full)
    assert next(model.parameters()).device.type == "cpu"
    assert model.training


@pytest.mark.parametrize("size", [(97, 131), (1, 1), (8, 8), (5, 64)])
@pytest.mark.parametrize("upsample", ["transpose", "bilinear", "subpixel"])
def test_any_size_in_same_size_out(size: tuple[int, int], upsample: str) -> None:
    model = build_model("unet", 3, 5, width=4, depth=3, upsample=upsample).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()


def test_odd_sizes_are_padded_with_their_border_and_cut_back() -> None:
    model = build_model("unet", 3, 2, width=4, depth=3).eval()
    images = torch.randn(2, 3, 13, 22)
    by_hand = torch.cat([images, images[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    by_hand = torch.cat([by_hand, by_hand[..., -1:].expand(-1, -1, -1, 2)], dim=3)
    with torch.no_grad():
        assert torch.equal(model(images), model(by_hand)[:, :, :13, :22])


@pytest.mark.parametrize(
    ("classes", "outputs", "channels"), [(2, "auto", 1), (2, "softmax", 2), (5, "auto", 5)]
)
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_channels_in_and_out(in_channels: int, classes: int, outputs: str, channels: int) -> None:
    model = build_model("unet", in_channels, classes, width=4, depth=2, outputs=outputs)
    assert model(torch.randn(2, in_channels, 8, 8)).shape == (2, channels, 8, 8)


@pytest.mark.parametrize("upsample", ["transpose", "bilinear", "subpixel"])
@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_gradient_reaches_every_parameter(norm: str, upsample: str) -> None:
    torch.manual_seed(0)
    model = build_model("unet", 3, 3, width=8, depth=2, norm=norm, upsample=upsample)
    torch.autograd.backward(
        F.cross_entropy(model(torch.randn(2, 3, 16, 16)), torch.randint(0, 3, (2, 16, 16)))
    )
    for name, tensor in model.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.any(), name


@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_bf16_autocast_agrees_and_keeps_channels_last(norm: str) -> None:
    torch.manual_seed(0)
    model = build_model("unet", 3, 2, width=8, depth=2, norm=norm).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    full = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).std() < 0.05 * full.std()  # 8 bits of mantissa, through a dozen layers
    torch.autograd.backward(half.float().square().mean())


@pytest.mark.parametrize("classes", [2, 5])
def test_the_first_loss_is_not_far_from_a_fair_guess(classes: int) -> None:
    torch.manual_seed(0)
    logits = build_model("unet", 3, classes, width=16, depth=3)(torch.randn(4, 3, 32, 32))
    labels = torch.randint(0, classes, (4, 32, 32))
    if classes == 2:
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    else:
        loss = F.cross_entropy(logits, labels)
    assert 0.9 * math.log(classes) < loss.item() < 1.6 * math.log(classes)


def test_dropout_drops_whole_channels_of_the_bottleneck_in_training_only() -> None:
    torch.manual_seed(0)
    model = UNet(3, 1, width=8, depth=2, norm="batch", dropout=0.5)
    seen: list[Tensor] = []
    model.bottleneck.register_forward_hook(lambda _, __, output: seen.append(output))
    images = torch.randn(4, 3, 32, 32)
    model(images)
    model.eval()(images)
    trained, predicted = ((~bottom.flatten(2).any(dim=2)).float().mean().item() for bottom in seen)
    assert 0.3 < trained < 0.7
    assert predicted < 0.1  # what ReLU alone leaves empty
    same = copy.deepcopy(model)
    assert torch.equal(same(images), model(images))


def test_it_overfits_four_pictures() -> None:
    torch.manual_seed(0)
    model = build_model("unet", 1, 2, width=8, depth=2)
    images = torch.rand(4, 1, 24, 24)
    labels = (F.avg_pool2d(images, 5, stride=1, padding=2) > 0.5).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        torch.autograd.backward(F.binary_cross_entropy_with_logits(model(images), labels))
        optimiser.step()
    with torch.no_grad():
        assert ((model.eval()(images) > 0) == (labels > 0)).float().mean() > 0.97
