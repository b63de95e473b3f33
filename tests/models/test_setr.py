"""SETR: the tokens are put back where their patches were, the decoders are the paper's, any size passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models import parameters
from maskwright.models.setr import SETR, Upsampling, make_decoder

KINDS: tuple[Upsampling, ...] = ("naive", "pup")


class MeanColours(nn.Module):
    """A Vision Transformer that only looks: one class token, then the mean of each 4x4 patch, row by row."""

    embed_dim, num_prefix_tokens = 3, 1

    def forward_features(self, x: Tensor) -> Tensor:
        places = F.avg_pool2d(x, 4).flatten(2).transpose(1, 2)  # B h*w 3
        return torch.cat([torch.full_like(places[:, :1], 99.0), places], dim=1)


def model(kind: Upsampling = "naive", dropout: float = 0.0) -> SETR:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", num_classes=0, global_pool="", dynamic_img_size=True)
    return SETR(vit, 16, 3, kind, dropout)


def test_tokens_return_to_their_places() -> None:
    setr = SETR(MeanColours(), 4, 3, "naive")
    setr.decoder = nn.Sequential()  # the coarse map is the answer
    images = torch.rand(2, 3, 8, 12)
    expected = F.interpolate(F.avg_pool2d(images, 4), (8, 12), mode="bilinear")
    torch.testing.assert_close(setr(images), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(97, 131), (20, 30), (1, 1)])
def test_any_size_in_same_size_out(kind: Upsampling, size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = model(kind).eval()(torch.randn(1, 3, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind: Upsampling) -> None:
    setr = model(kind)
    setr(torch.randn(2, 3, 32, 48)).square().mean().backward()
    unused = ("encoder.cls_token",)  # the paper has no class token; it still takes part in the attention
    for name, tensor in setr.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.any() or name in unused, name


def test_the_decoders_have_the_papers_sizes() -> None:
    """Section 3.3 for ViT-L (1024 channels, patches of 16) and the 19 classes of Cityscapes."""
    norm, head = 2 * 256, 256 * 19 + 19
    assert parameters(make_decoder("naive", 1024, 19, 0.0, 16)) == 1024 * 256 + norm + head
    convolutions = 9 * 256 * (1024 + 3 * 256) + 4 * norm
    assert parameters(make_decoder("pup", 1024, 19, 0.0, 16)) == convolutions + head


@pytest.mark.parametrize(("patch", "side"), [(8, 24), (16, 48), (32, 96), (14, 48)])
def test_pup_doubles_up_to_the_patch(patch: int, side: int) -> None:
    """14 pixels are nearest to four doublings; the rest is interpolated by SETR."""
    assert make_decoder("pup", 4, 2, 0.0, patch).eval()(torch.zeros(1, 4, 3, 3)).shape == (1, 2, side, side)


def test_the_published_size_of_naive_base() -> None:
    """Table 2: 87.69 M with ViT-B at 768 pixels. Ours lacks the auxiliary heads, which are small."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch16_224", num_classes=0, global_pool="", img_size=768)
        assert parameters(SETR(vit, 16, 19, "naive")) == pytest.approx(87.69e6, rel=2e-3)


def test_dropout_acts_in_training_only() -> None:
    setr = model("pup", dropout=0.5)
    assert [m.p for m in setr.decoder.modules() if isinstance(m, nn.Dropout2d)] == [0.5]
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        setr.eval()
        assert torch.equal(setr(images), setr(images))
        setr.decoder[0].train()  # only dropout is left to differ
        assert not torch.equal(setr(images), setr(images))
