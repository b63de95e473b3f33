"""The whole way from a batch of pictures to class ids as one module: what leaves the lab.

It says what `Predictor` says, for a batch and in operators that every runtime has. Antialiased resampling is written as
two matrix products whose entries are counted out from the picture's size: ONNX Runtime's antialiased Resize is off by
0.05 at borders (unless told to leave out what lies outside), and OpenVINO reads it without antialiasing.
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import TypeAlias, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from maskwright.predict.model_folder import ModelSpec, preprocess_from_spec
from maskwright.predict.postprocess import decide, probabilities
from maskwright.predict.tta import scaled, views
from maskwright.tensors import Images, Logits

Shares: TypeAlias = Float[Tensor, "N K H W"]
Said: TypeAlias = tuple[
    UInt8[Tensor, "N H W"], Float[Tensor, "N K H W"], Float[Tensor, "N K H W"], Float[Tensor, "N k H W"]
]
"""In the order of `backends.OUTPUTS`, all at the pictures' own size: class ids; the probabilities from which they were
decided; what those are worth, p^(1 / temperature) brought back to a sum of 1; and the network's logits of the picture
as it is, one channel for a sigmoid. A plain tuple: a package that is read without us must not need our classes.
"""


class Whole(nn.Module):
    """uint8 N H W C -> `Said`; N, H and W may be anything."""

    def __init__(self, spec: ModelSpec, network: nn.Module, tta: str = "none") -> None:
        super().__init__()
        self.spec, self.network = spec, network
        self.preprocess = preprocess_from_spec(spec)
        looks = views(tta)
        # The plain look first; mirrored pictures go through the network beside the others of their scale.
        self.scales = sorted({view.scale for view in looks}, key=lambda scale: abs(scale - 1))
        self.mirrored = any(view.mirrored for view in looks)

    def forward(self, images: UInt8[Tensor, "N H W C"]) -> Said:
        pictures = images.permute(0, 3, 1, 2).float().div(255)  # N C H W
        looks = [logits for scale in self.scales for logits in self.look(pictures, scale)]  # N k H W each
        shares = reduce(operator.add, map(probabilities, looks)) / len(looks)  # N K H W
        # `decide` of many classes is written for torch: as a graph it would be three operators for each class.
        two = shares.shape[1] == 2
        mask = decide(shares, self.spec.threshold) if two else shares.argmax(dim=1).to(torch.uint8)
        return mask, shares, self.calibrated(looks, shares), looks[0]

    def calibrated(self, looks: list[Logits], shares: Shares) -> Shares:
        """As `Prediction.calibrated`; of one look that is softmax(logits / T), which costs less than a power."""
        if self.spec.temperature == 1:
            return shares.clone()
        if len(looks) == 1:
            return probabilities(looks[0] / self.spec.temperature)
        powers = shares ** (1 / self.spec.temperature)
        return powers / powers.sum(dim=1, keepdim=True)

    def look(self, pictures: Images, scale: float) -> list[Logits]:
        """The network's logits at the pictures' own size: of the pictures, and of their mirror images turned back."""
        height, width = pictures.shape[2:]
        fit, (rows, columns) = self.spec.input.fit, self.spec.input.size
        if fit == "crop":
            rows, columns = height, width
        if scale != 1:
            rows, columns = scaled(rows, scale), scaled(columns, scale)
        if fit == "crop" and scale == 1:
            return self.ask(pictures)
        if fit != "letterbox":
            return [_stretch(said, height, width) for said in self.ask(_shrink(pictures, rows, columns))]
        # As `fit.place` has it, without a branch on sizes that are not known yet.
        inner_rows = _within(height, columns, width, rows)
        inner_columns = _within(width, rows, height, columns)
        top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
        inner = _shrink(pictures, inner_rows, inner_columns)
        fill = self.preprocess.fill.view(1, -1, 1, 1)
        bars = (left, columns - left - inner_columns, top, rows - top - inner_rows)
        canvas = (F.pad(inner - fill, bars) + fill)[:, :, :rows, :columns]
        within = slice(top, top + inner_rows), slice(left, left + inner_columns)
        return [_stretch(said[:, :, *within], height, width) for said in self.ask(canvas)]

    def ask(self, canvas: Images) -> list[Logits]:
        seen = self.preprocess.normalise(canvas)
        if not self.mirrored:
            return [self.network(seen)]
        both = self.network(torch.cat([seen, seen.flip(3)]))
        return [both[: seen.shape[0]], both[seen.shape[0] :].flip(3)]


def _within(length: int, rows: int, height: int, most: int) -> int:
    """round(length * rows / height), at least 1 and at most `most`: in whole numbers, that every runtime has."""
    inside = torch.sym_min(most, (2 * length * rows + height) // (2 * height))
    return cast(int, torch.sym_max(1, inside))


def _shrink(pictures: Images, rows: int, columns: int) -> Images:
    """Antialiased bilinear resampling, as `F.interpolate(antialias=True)` does it, in two products of matrices."""
    across = triangles(pictures.shape[3], columns).T  # W w
    down = triangles(pictures.shape[2], rows)  # h H
    return down @ (pictures @ across)


def triangles(old: int, new: int) -> Float[Tensor, "new old"]:
    """How much each old pixel weighs in each new one: a triangle as wide as two pixels, of the larger kind."""
    scale = old / new
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * scale
    reach = cast(float, torch.sym_max(scale, 1.0))
    distances: Tensor = (torch.arange(old) + 0.5 - centres[:, None]).abs() / reach
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def _stretch(logits: Logits, height: int, width: int) -> Logits:
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
