"""What networks answer in training and in evaluation: how many outputs, in which order, how large."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import build_model
from maskwright.models.blocks import Blend, initialise
from maskwright.models.supervision import FusedOutputs, LevelOutputs, crop_level, make_outputs

KINDS = ("none", "levels", "fused")
SIZES: dict[str, list[tuple[int, int]]] = {
    "unet": [(13, 22), (7, 11), (4, 6)],
    "unetplusplus": [(13, 22)] * 3,
    "dual-unet": [(13, 22)] * 2,
    "resnet34-unet wide": [(13, 22), (4, 6), (2, 3), (1, 2)],
    "resnet34-unet narrow": [(13, 22), (7, 11), (4, 6), (2, 3), (1, 2)],
    "resnet34-unet unet": [(13, 22), (7, 11), (4, 6), (2, 3), (1, 2), (1, 1)],
}
"""Of the outputs for a picture of 13 x 22: level i holds 1/2^i of it, rounded up."""


def small(family: str, classes: int = 3, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    name, _, decoder = family.partition(" ")
    changes |= {"decoder": decoder} if decoder else {}
    return build_model(name, 3, classes, width=4, depth=3, **changes)


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_order_and_sizes(family: str, kind: str) -> None:
    model, images = small(family, norm="none", deep_supervision=kind), torch.randn(2, 3, 13, 22)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # of ResNet34: the same in training as in evaluation
    with torch.no_grad():
        trained = model(images)
        predicted = model.eval()(images)
    assert predicted.shape == (2, 3, 13, 22)
    if kind == "none":
        assert torch.equal(trained, predicted)
        return
    assert isinstance(trained, list)
    sizes = SIZES[family] if kind == "levels" else [(13, 22), *SIZES[family]]
    assert [tuple(level.shape) for level in trained] == [(2, 3, *size) for size in sizes]
    assert torch.equal(trained[0], predicted)
    assert len({level.sum().item() for level in trained}) == len(sizes)


def test_unet_levels_are_heads_on_its_decoder_from_fine_to_coarse() -> None:
    model, images = small("unet", norm="none", deep_supervision="levels"), torch.randn(2, 3, 16, 24)
    seen: list[Tensor] = []
    decoder, outputs = model.get_submodule("decoder"), model.get_submodule("outputs")
    assert isinstance(decoder, nn.ModuleList)
    assert isinstance(outputs, LevelOutputs)
    for step in decoder:
        step.register_forward_hook(lambda _, __, output: seen.insert(0, output))
    for level, head, features in zip(
        model(images), [model.get_submodule("head"), *outputs.heads], seen, strict=True
    ):
        torch.testing.assert_close(level, head(features))


def test_the_levels_of_a_plain_network_stay_the_same_weights() -> None:
    """Deep supervision adds tensors and renames none, so that a plain network can start a supervised one."""
    plain = small("unet").state_dict()
    for kind in ("levels", "fused"):
        supervised = small("unet", deep_supervision=kind).state_dict()
        assert all(supervised[name].shape == tensor.shape for name, tensor in plain.items())
        assert {name.split(".")[0] for name in supervised.keys() - plain.keys()} == {"outputs"}


def test_fused_starts_as_the_mean_of_the_interpolated_levels() -> None:
    model, images = small("unet", norm="none", deep_supervision="fused"), torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        fused, *levels = model(images)
    aligned = [F.interpolate(level, size=(16, 24), mode="bilinear") for level in levels]
    torch.testing.assert_close(fused, torch.stack(aligned).mean(0))


def test_fused_aligns_levels_before_it_crops_them() -> None:
    """At an odd size, a coarse pixel over the border still covers its own fine pixels only."""
    fused = FusedOutputs([nn.Identity()], out_channels=1)
    blend = fused.blend
    initialise(fused)
    assert torch.equal(blend.weight.flatten(), torch.tensor([0.5, 0.5]))
    full, coarse = torch.zeros(1, 1, 4, 4), torch.arange(4.0).view(1, 1, 2, 2)
    found = fused.eval()(full, [coarse], torch.zeros(1, 3, 3, 3))
    expected = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :3, :3] / 2
    torch.testing.assert_close(found, expected)


def test_blends_keep_classes_apart() -> None:
    blend = Blend(2, 3)
    initialise(nn.Sequential(blend))
    first, second = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    torch.testing.assert_close(blend(torch.cat([first, second], 1)), (first + second) / 2)


@pytest.mark.parametrize(("step", "size"), [(1, (5, 9)), (2, (3, 5)), (4, (2, 3)), (8, (1, 2))])
def test_levels_keep_every_pixel_that_holds_some_of_the_picture(step: int, size: tuple[int, int]) -> None:
    full, images = torch.zeros(1, 2, 8, 16), torch.zeros(1, 3, 5, 9)
    level = torch.zeros(1, 2, 8 // step, 16 // step)
    assert crop_level(level, full, images).shape == (1, 2, *size)


def test_without_deep_supervision_no_head_is_made() -> None:
    def refuse() -> nn.Module:
        raise AssertionError("a head was made")

    make_outputs("none", (refuse() for _ in range(3)), 2)


def test_heads_of_all_levels_start_with_variance_1_over_fan_in() -> None:
    model = build_model("unet", 1, 12, width=128, depth=2, deep_supervision="levels")
    outputs = model.get_submodule("outputs")
    assert isinstance(outputs, LevelOutputs)
    (head,) = outputs.heads
    assert isinstance(head, nn.Conv2d)
    assert head.weight.std().item() == pytest.approx((1 / 256) ** 0.5, rel=0.05)
