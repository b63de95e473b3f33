"""The parts of networks against torch's own operations and against MONAI's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.blocks import (
    ConvNormAct,
    DoubleConv,
    LayerNorm,
    Norm,
    SubPixel,
    Up,
    UpConv,
    Upsample,
    crop_like,
    initialise,
    make_norm,
    make_upsampler,
    pad_to_multiple,
)

NORMS: tuple[Norm, ...] = ("none", "batch", "group", "layer")
UPSAMPLERS: tuple[Upsample, ...] = ("transpose", "bilinear", "subpixel")


def test_layer_norm_is_over_the_channels_of_each_pixel() -> None:
    norm, x = LayerNorm(5).double(), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    expected = expected * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


def test_layer_norm_keeps_channels_last() -> None:
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert LayerNorm(8)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "groups"), [(64, 4), (32, 2), (16, 1), (24, 3), (7, 7)])
def test_groups_have_sixteen_channels_where_they_can(channels: int, groups: int) -> None:
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


@pytest.mark.parametrize("norm", NORMS)
def test_a_convolution_has_a_bias_exactly_where_no_norm_follows(norm: Norm) -> None:
    convolution = ConvNormAct(3, 4, norm)[0]
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.bias is not None) == (norm == "none")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_up_conv_is_torchs_transposed_convolution(layout: torch.memory_format) -> None:
    ours = UpConv(6, 5).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    pull = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    expected = F.conv_transpose2d(x, ours.weight, ours.bias, stride=2)
    torch.testing.assert_close(ours(x), expected)
    inputs = [x, *ours.parameters()]
    for found, right in zip(
        torch.autograd.grad(ours(x), inputs, pull), torch.autograd.grad(expected, inputs, pull), strict=True
    ):
        torch.testing.assert_close(found, right)


def test_bilinear_projects_before_it_interpolates_with_the_same_result() -> None:
    up, x = make_upsampler("bilinear", 6, 5), torch.randn(2, 6, 3, 4)
    assert isinstance(up, nn.Sequential)
    other_order = up[0](F.interpolate(x, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close(up(x), other_order)


def test_sub_pixels_start_as_nearest_neighbours_of_a_convolution() -> None:
    model = nn.Sequential(SubPixel(3, 4), nn.Conv2d(4, 1, 1))
    head = model[1]
    assert isinstance(head, nn.Conv2d)
    initialise(model, head)
    fine = model[0](torch.randn(2, 3, 5, 6))
    assert fine.shape == (2, 4, 10, 12)
    assert fine.std() > 0.5
    torch.testing.assert_close(fine, F.interpolate(fine[..., ::2, ::2], scale_factor=2.0))


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_up_samplers_double_the_size_and_keep_channels_last(kind: Upsample) -> None:
    x = torch.randn(2, 6, 3, 5).to(memory_format=torch.channels_last)
    fine = make_upsampler(kind, 6, 8).to(memory_format=torch.channels_last)(x)
    assert fine.shape == (2, 8, 6, 10)
    assert fine.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow  # MONAI takes 12 s to import
def test_up_equals_monais_up_cat_with_the_same_weights() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # MONAI's imports warn about others
        upcat = pytest.importorskip("monai.networks.nets.basic_unet").UpCat
    norm = ("batch", {"affine": True})
    theirs = upcat(2, 16, 8, 8, act="relu", norm=norm, bias=False, dropout=0.0, upsample="deconv")
    ours = Up(16, 8, 8, "batch", "transpose")
    named = [name for name, _ in ours.named_parameters()], [name for name, _ in theirs.named_parameters()]
    assert len(named[0]) == len(named[1]) == 8
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            nn.init.normal_(other, std=0.3)
            own.copy_(other)
    coarse, skip = torch.randn(2, 16, 4, 6), torch.randn(2, 8, 8, 12)
    torch.testing.assert_close(ours(coarse, skip), theirs(coarse, skip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (97, 131), (64, 32), (33, 16)])
def test_padding_repeats_the_border_and_is_cut_back(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    padded = pad_to_multiple(images, 16)
    height, width = padded.shape[-2:]
    assert height % 16 == 0 == width % 16
    assert height - size[0] < 16
    assert width - size[1] < 16
    assert torch.equal(crop_like(padded, images), images)
    last_row = images[:, :, -1:].expand(-1, -1, height - size[0], -1)
    assert torch.equal(padded[:, :, size[0] :, : size[1]], last_row)


def test_he_initialisation_keeps_the_size_of_activations() -> None:
    """Eight convolutions with ReLU: the second moment stays within a factor of two."""
    torch.manual_seed(0)
    blocks = [DoubleConv(64, 64, "none") for _ in range(4)]
    head = nn.Conv2d(64, 1, 1)
    model = nn.Sequential(*blocks, head)
    initialise(model, head)
    x: Tensor = torch.randn(2, 64, 24, 24)
    inner = nn.Sequential(*blocks)(x)[..., 8:-8, 8:-8]  # zeros at the border are not ours to judge
    assert 0.5 < inner.square().mean() / x.square().mean() < 2
    biases = [tensor for name, tensor in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 9
    assert not any(bias.any() for bias in biases)


def test_transposed_convolutions_count_one_tap_per_pixel() -> None:
    up, head = UpConv(256, 64), nn.Conv2d(64, 1, 1)
    initialise(nn.Sequential(up, head), head)
    assert up.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)


def test_convolutions_count_what_one_pixel_sees() -> None:
    convolution, head = nn.Conv2d(16, 256, 3), nn.Conv2d(256, 1, 1)
    initialise(nn.Sequential(convolution, head), head)
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)


def test_the_head_can_say_foreground_from_the_first_step() -> None:
    """Its inputs are not negative: were all its weights, the foreground could never win. Variance 1 / fan-in."""
    head = nn.Conv2d(1024, 8, 1)
    initialise(nn.Sequential(head), head)
    assert head.weight.std().item() == pytest.approx((1 / 1024) ** 0.5, rel=0.05)
