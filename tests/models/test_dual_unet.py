"""DoubleU-Net against an implementation written from its diagram, and against the size of the authors' network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import parameters
from maskwright.models.dual_unet import VGG19, DualUNet


def test_the_encoder_has_vgg19s_size() -> None:
    """Simonyan & Zisserman 2015, E: 143,667,240 parameters with the three fully connected layers."""
    connected = sum(a * b + b for a, b in ((512 * 49, 4096), (4096, 4096), (4096, 1000)))
    assert parameters(VGG19(3, 64, "none")) == 143_667_240 - connected


def test_its_size_is_that_of_the_authors_network() -> None:
    """Theirs, layer by layer; ours has norms in the first encoder, and no bias where a norm follows."""

    def convolution(channels: int, out: int, kernel: int, *, bias: bool) -> int:
        return kernel**2 * channels * out + bias * out + 2 * out  # and its norm

    def block(channels: int, out: int) -> int:
        excitation = 2 * out * (out // 8)
        return convolution(channels, out, 3, bias=True) + convolution(out, out, 3, bias=True) + excitation

    def pyramid(channels: int) -> int:
        ends = convolution(channels, 64, 1, bias=True) + convolution(5 * 64, 64, 1, bias=False)
        atrous = 3 * convolution(channels, 64, 3, bias=False)
        return ends + convolution(channels, 64, 1, bias=False) + atrous

    vgg, fine = 20_024_384, (32, 64, 128, 256)
    first = block(64 + 512, 256) + block(256 + 256, 128) + block(128 + 128, 64) + block(64 + 64, 32)
    encoder = sum(block(channels, out) for channels, out in zip((3, *fine), fine, strict=False))
    second = block(64 + 768, 256) + block(256 + 384, 128) + block(128 + 192, 64) + block(64 + 96, 32)
    theirs = vgg + pyramid(512) + first + 33 + encoder + pyramid(256) + second + 33
    assert round(theirs / 1e6, 2) == 29.29  # as usually cited for DoubleU-Net
    norms, biases = 2 * 5504 - 5504, 3 * 2 * sum(fine)
    assert parameters(DualUNet(3, 1)) == theirs + norms - biases - 2 * 2 * 64


@pytest.mark.parametrize("classes", [1, 3])
def test_it_is_the_network_of_the_diagram(classes: int) -> None:
    torch.manual_seed(0)
    model = DualUNet(2, classes, width=2, norm="none", deep_supervision="levels").double()
    for tensor in model.parameters():
        nn.init.normal_(tensor, std=0.2)
    images, weights = torch.randn(1, 2, 32, 16, dtype=torch.float64), model.state_dict()

    def convolve(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = weights[f"{name}.0.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.relu(F.conv2d(x, weight, weights[f"{name}.0.bias"], padding=padding, dilation=dilation))

    def block(name: str, x: Tensor) -> Tensor:
        x = convolve(f"{name}.0.1", convolve(f"{name}.0.0", x))
        hidden = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), weights[f"{name}.1.squeeze.weight"]))
        return x * F.conv2d(hidden, weights[f"{name}.1.excite.weight"]).sigmoid()

    def pyramid(name: str, x: Tensor) -> Tensor:
        mean = F.interpolate(convolve(f"{name}.0.pooled", F.adaptive_avg_pool2d(x, 1)), size=x.shape[-2:])
        atrous = [convolve(f"{name}.0.atrous.{i}", x, rate) for i, rate in enumerate((6, 12, 18))]
        return convolve(f"{name}.0.project", torch.cat([convolve(f"{name}.0.point", x), *atrous, mean], 1))

    def decode(name: str, x: Tensor, skips: list[list[Tensor]]) -> Tensor:
        for i, beside in enumerate(skips):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = block(f"{name}.steps.{i}", torch.cat([x, *beside], 1))
        return x

    x, first = images, []
    for stage, convolutions in enumerate((2, 2, 4, 4, 4)):
        x = F.max_pool2d(x, 2) if stage else x
        for i in range(convolutions):
            x = convolve(f"encoder1.stages.{stage}.{i}", x)
        first.append(x)
    decoded = decode("decoder1", pyramid("aspp1", first.pop()), [[skip] for skip in first[::-1]])
    output1 = F.conv2d(decoded, weights["head1.weight"], weights["head1.bias"])
    share = output1.sigmoid() if classes == 1 else output1.softmax(1)
    x, second = torch.cat([share[:, k : k + 1] * images for k in range(classes)], 1), []
    for stage in range(4):
        x = block(f"encoder2.stages.{stage}", x)
        second.append(x)
        x = F.max_pool2d(x, 2)
    both = [list(pair) for pair in zip(first[::-1], second[::-1], strict=True)]
    decoded = decode("decoder2", pyramid("aspp2", x), both)
    output2 = F.conv2d(decoded, weights["head2.weight"], weights["head2.bias"])
    torch.testing.assert_close(model(images), [output2, output1])


def test_dropout_is_behind_both_pyramids() -> None:
    model = DualUNet(1, 1, width=2, dropout=0.25)
    assert [model.aspp1[1], model.aspp2[1]] == [m for m in model.modules() if isinstance(m, nn.Dropout2d)]
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout2d)} == {0.25}
