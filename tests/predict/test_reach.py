"""How far networks look: counted by hand, layer by layer, and measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from maskwright.models import build_model
from maskwright.models.blocks import crop_like, pad_to_multiple
from maskwright.predict.reach import WHOLE, Context, measure_context, widest


def unet_reach(depth: int) -> int:
    """Along one axis: two 3x3 convolutions are 2 pixels on either side, pixel c of a halved map comes of 2c and 2c + 1,
    and pixel x of a doubled one of x // 2. The way through the bottom is the longest.
    """
    furthest = 0
    for pixel in range(2**depth):
        low = high = pixel
        for _ in range(depth):  # from the head down to the bottom
            low, high = (low - 2) // 2, (high + 2) // 2
        low, high = low - 2, high + 2
        for _ in range(depth):  # and back through the encoder to the picture
            low, high = 2 * low - 2, 2 * high + 1 + 2
        furthest = max(furthest, pixel - low, high - pixel)
    return furthest


def test_the_oracle_is_what_a_pencil_gives() -> None:
    """Depth 1, pixel 1: 1 - 2 = -1, // 2 = -1, - 2 = -3, x 2 = -6, - 2 = -8: nine pixels away."""
    assert unet_reach(1) == 9
    assert unet_reach(4) == 107


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_unet_looks_as_far_as_was_counted(depth: int, norm: str) -> None:
    context = measure_context(build_model("unet", 3, 2, width=2, depth=depth, norm=norm), 3)
    assert context.stride == 2**depth
    assert not context.whole
    assert unet_reach(depth) <= context.reach < unet_reach(depth) + context.stride


def test_trained_weights_hide_nothing() -> None:
    """A network whose ReLUs are all dead, and whose weights are 0, looks as far as any other of its kind."""
    network = build_model("unet", 1, 2, width=2, depth=2)
    before = measure_context(network, 1)
    for parameter in network.parameters():
        parameter.data.fill_(-1 if parameter.ndim == 1 else 0)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert measure_context(network, 1) == before
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])


class Padded(nn.Module):
    """Takes any size, as all networks here do."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return crop_like(self.layers(pad_to_multiple(images, 12)), images)


@pytest.mark.parametrize(
    ("layers", "reach", "stride"),
    [
        ([nn.Conv2d(2, 1, 1)], 0, 1),
        ([nn.Conv2d(2, 2, 5, padding=2), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=2, dilation=2)], 4, 1),
        ([nn.MaxPool2d(3, 1, 1), nn.Sigmoid(), nn.Conv2d(2, 1, (1, 9), padding=(0, 4))], 5, 1),
        ([nn.Conv2d(2, 2, 2, stride=2), nn.Upsample(scale_factor=2)], 1, 2),
        ([nn.Conv2d(2, 2, 3, 4, 1), nn.Upsample(scale_factor=4, mode="bilinear")], 6, 4),
    ],
)
def test_plain_stacks(layers: list[nn.Module], reach: int, stride: int) -> None:
    context = measure_context(Padded(*layers), 2)
    assert context.stride == stride
    assert reach <= context.reach < reach + stride


class Pooled(nn.Module):
    """Squeeze and excite: a factor that depends on the whole picture."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), Pooled(), nn.Conv2d(4, 1, 1)),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1)),
        Padded(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        Padded(nn.AvgPool2d(3), nn.Upsample(scale_factor=3)),
    ],
    ids=["pooling", "group norm", "a grid that depends on the size", "a stride that is no power of two"],
)
def test_what_depends_on_the_whole_picture_is_told(network: nn.Module) -> None:
    assert measure_context(network, 2).whole


def test_attention_and_pyramids_look_at_everything() -> None:
    for changes in ({"bottleneck": ("aspp",)}, {"bottleneck": ("transformer",)}, {"attention": ("channel",)}):
        assert measure_context(build_model("unet", 3, 2, width=4, depth=2, **changes), 3).whole
    gates = measure_context(build_model("unet", 3, 2, width=4, depth=2, attention=("gate",)), 3)
    assert not gates.whole
    assert gates.stride == 4


def test_of_several_networks_the_widest_counts() -> None:
    assert widest([Context(10, 8), Context(40, 4)]) == Context(40, 8)
    assert widest([Context(10, 8), WHOLE]).whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reach", "stride"),
    [
        ("unet", 107, 16),
        ("unetplusplus", 107, 16),
        ("resnet34-unet", 529, 32),
        ("linknet", 500, 32),
        ("smp-unet", 529, 32),
    ],
)
def test_networks_without_a_look_at_the_whole(name: str, reach: int, stride: int) -> None:
    context = measure_context(build_model(name, 3, 2), 3)
    assert context.stride == stride
    assert reach <= context.reach < reach + stride


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dual-unet", "deeplabv3plus", "fpn", "upernet", "segformer", "setr-pup", "pan"]
)
def test_networks_that_look_at_the_whole(name: str) -> None:
    assert measure_context(build_model(name, 3, 2), 3).whole
