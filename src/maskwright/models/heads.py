"""Auxiliary heads: what a network learns to say beside its masks, from the same features."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.models.blocks import crop_like
from maskwright.tensors import Images, Logits, Outputs

PLACE = "auxiliary"
"""Where a network that can have heads keeps them."""


class NoHeads(nn.Module):
    """A network without heads answers as it is. Knows the features that heads would see: `channels` maps, of the
    padded picture's size divided by `stride`."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(
        self, outputs: Logits | list[Logits], _features: Tensor, _images: Images
    ) -> Logits | list[Logits]:
        return outputs


class Heads(nn.Module):
    """In training Outputs, with a number per pixel and head: B A H W; in evaluation the network's answer as it is.

    A 1x1 convolution of the features that the logits are made of, so that whatever it needs, the decoder has to know
    too. Nothing else in it depends on the mode: in training mode by itself, within a network in evaluation mode, it
    answers without changing the logits.
    """

    def __init__(self, heads: int, channels: int, stride: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, heads, 1)
        self.enlarge: nn.Module = nn.Identity()
        if stride > 1:
            self.enlarge = nn.Upsample(scale_factor=stride, mode="bilinear", align_corners=False)
        nn.init.normal_(self.head.weight, std=channels**-0.5)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(
        self, outputs: Logits | list[Logits], features: Tensor, images: Images
    ) -> Logits | list[Logits] | Outputs:
        if not self.training:
            return outputs
        answers = self.enlarge(self.head(features))  # B A H W
        return Outputs(outputs, crop_like(answers, images))


def add_heads(model: nn.Module, heads: int, name: str) -> None:
    """Give a network so many heads, in place; 0 leaves it alone. In training it then answers with Outputs.

    Its other weights are what they were. Raises ConfigError, with the network's `name`, for one that can have none.
    """
    if not heads:
        return
    place = getattr(model, PLACE, None)
    if not isinstance(place, NoHeads):
        raise ConfigError(
            f"loss.edge and loss.targets need a head that {name} cannot have",
            "take unet, resnet34-unet, unetplusplus or dual-unet, or leave both away",
        )
    setattr(model, PLACE, Heads(heads, place.channels, place.stride))


def without_heads(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the plain network: all that prediction needs."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(f"{PLACE}.")}
