"""ResNet34-UNet: the encoder against timm's, the decoders by shape, gradient and size."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import build_model, flops, parameters
from maskwright.models.resnet34_unet import ResNet34, ResNet34UNet

DECODERS = ("wide", "narrow", "unet")


def resnet34_unet(in_channels: int = 3, classes: int = 2, **changes: object) -> ResNet34UNet:
    torch.manual_seed(0)
    model = build_model("resnet34-unet", in_channels, classes, **changes)
    assert isinstance(model, ResNet34UNet)
    return model


def test_the_encoder_is_timms_resnet34() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet34", pretrained=False, features_only=True).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)  # freshly made these are 0 and would hide a swap
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    ours = ResNet34(3).eval()
    ours.load_state_dict(theirs.state_dict())  # strict: every name is the same
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        half, _, *rest = ours(images)
        for own, other in zip([half, *rest], theirs(images), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_the_encoder_learns_as_timms_resnet34() -> None:
    """In training: norms of the batch, gradients of every weight and of the pictures, figures of the norms."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(
        "resnet34", pretrained=False, features_only=True, zero_init_last=False
    ).double()
    ours = ResNet34(3).double()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 32, dtype=torch.float64, requires_grad=True)
    found, right = ours(images).last, theirs(images)[-1]
    torch.testing.assert_close(found, right)
    for name, tensor in ours.named_buffers():
        torch.testing.assert_close(tensor, theirs.get_buffer(name))
    names = [name for name, _ in ours.named_parameters()]
    pull = torch.randn_like(right)
    for name, own, other in zip(
        ["images", *names],
        torch.autograd.grad(found, [images, *ours.parameters()], pull),
        torch.autograd.grad(right, [images, *map(theirs.get_parameter, names)], pull),
        strict=True,
    ):
        assert other.any(), name
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9 * other.abs().max().item(), msg=name)


def test_the_encoder_has_the_published_size() -> None:
    """torchvision's resnet34 has 21,797,672 parameters, of which 512 x 1000 + 1000 are its classifier (21.8 M)."""
    assert parameters(ResNet34(3)) == 21_797_672 - 513_000


def test_the_narrow_decoder_has_the_sizes_of_document_002() -> None:
    width = 32
    convolutions = 4 * (2 * 9 * width * width + 4 * width)  # two 3x3 per level, each with its norm
    ups = sum(4 * width * c + width for c in (256 + 512, width + 512, width + 128, width + 64, width))
    bridge, scale, head = 512 * 256 + 2 * 256, 256 * 512 + 512, width + 1
    assert parameters(resnet34_unet().decoder) == convolutions + ups + bridge + scale + head


def test_the_unet_decoder_has_the_unets_own_parts() -> None:
    """Bottleneck and decoder of the paper's UNet, parameter by parameter, and the stem's level."""
    unet = build_model("unet", 3, 2, width=64, depth=4, norm="none")
    own = resnet34_unet(decoder="unet", norm="none").decoder
    theirs = {
        name: tensor.shape for name, tensor in unet.state_dict().items() if name.startswith(("bott", "deco"))
    }
    shapes = [
        tensor.shape
        for name, tensor in own.state_dict().items()
        if not name.startswith(("up1", "up0", "head"))
    ]
    assert shapes == list(theirs.values())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(97, 131), (1, 1)])
def test_any_size_in_same_size_out(decoder: str, size: tuple[int, int]) -> None:
    model = resnet34_unet(decoder=decoder).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("in_channels", "classes", "outputs", "channels"),
    [(1, 2, "auto", 1), (4, 2, "softmax", 2), (3, 5, "auto", 5)],
)
def test_channels_in_and_out(in_channels: int, classes: int, outputs: str, channels: int) -> None:
    model = resnet34_unet(in_channels, classes, outputs=outputs).eval()
    with torch.no_grad():
        assert model(torch.randn(1, in_channels, 32, 32)).shape == (1, channels, 32, 32)


@pytest.mark.parametrize(
    ("decoder", "norm", "upsample"),
    [
        ("wide", "none", "transpose"),
        ("narrow", "batch", "transpose"),
        ("narrow", "group", "bilinear"),
        ("narrow", "layer", "subpixel"),
        ("unet", "batch", "transpose"),
    ],
)
def test_gradient_reaches_every_parameter(decoder: str, norm: str, upsample: str) -> None:
    model = resnet34_unet(classes=3, decoder=decoder, norm=norm, upsample=upsample)
    torch.autograd.backward(
        F.cross_entropy(model(torch.randn(2, 3, 64, 64)), torch.randint(0, 3, (2, 64, 64)))
    )
    for name, tensor in model.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.any(), name


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_first_loss_is_not_far_from_log_2_under_bf16_too(decoder: str) -> None:
    model = resnet34_unet(decoder=decoder).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.bfloat16
    loss = F.binary_cross_entropy_with_logits(logits.float(), torch.rand_like(logits.float()).round())
    assert 0.9 * math.log(2) < loss.item() < 1.6 * math.log(2)


@pytest.mark.parametrize("decoder", DECODERS)
def test_dropout_acts_in_training_only(decoder: str) -> None:
    model = resnet34_unet(decoder=decoder, dropout=0.5)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout2d)] == [0.5]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # only dropout is left to differ
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


def test_wide_interpolates_the_pooled_stem_beside_its_finest_level() -> None:
    """Document 001: the last skip is what the first residual block receives, at twice its size."""
    model = resnet34_unet(decoder="wide", norm="none").eval()
    received: list[Tensor] = []
    inner = model.decoder.up1
    inner.register_forward_hook(lambda _, __, kwargs, ___: received.append(kwargs["skip"]), with_kwargs=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model(images)
        pooled = model.encoder(images).pooled
    torch.testing.assert_close(received[0], F.interpolate(pooled, size=(32, 32), mode="bilinear"))


def test_narrow_costs_2_7_gigaflops_at_128_pixels() -> None:
    """Most of it the encoder: 3.6 GMAC at 224 pixels (He et al. 2016, table 1) without its classifier."""
    encoder = 2 * 3.6e9 * (128 / 224) ** 2
    total = flops(resnet34_unet(), (128, 128), in_channels=3)
    assert encoder < total < 1.2 * encoder


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_it_overfits_four_pictures(decoder: str) -> None:
    model = resnet34_unet(decoder=decoder)
    images = torch.rand(4, 3, 64, 64)
    labels = (F.avg_pool2d(images.mean(1, keepdim=True), 17, stride=1, padding=8) > 0.48).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        torch.autograd.backward(F.binary_cross_entropy_with_logits(model(images), labels))
        optimiser.step()
    with torch.no_grad():
        assert ((model(images) > 0) == (labels > 0)).float().mean() > 0.97
