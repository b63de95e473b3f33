"""What is done to each picture of a batch: arrays only, no pixel is touched here.

Everything is drawn from counters, (seed, epoch, picture, copy), so a picture's fate depends neither on the
batch it lies in, nor on workers, restarts or machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64
from scipy.special import betaincinv

from maskwright.config import AugmentConfig

GRID = 7
"""Control points of the elastic displacement per side: the B-spline's four cells and its three neighbours."""

ASPECT = math.log(4 / 3)
"""Largest log aspect ratio of a random crop, relative to the picture's own (Szegedy et al. 2015)."""


@dataclass(frozen=True)
class AugmentParams:
    """One row per picture; pairs are (row, column) as in sizes. `identity` has the values that do nothing."""

    flip_B: Bool[np.ndarray, " B"]
    """Left and right swapped."""
    flip_vertical_B: Bool[np.ndarray, " B"]
    angle_B: Float[np.ndarray, " B"]
    """Radians, counter-clockwise as one looks at the picture."""
    scale_B: Float[np.ndarray, " B"]
    """2: things look twice as large."""
    shift_B2: Float[np.ndarray, "B 2"]
    """Share of the side, down and to the right."""
    shear_B2: Float[np.ndarray, "B 2"]
    """Radians by which the horizontal (first) and the vertical axis lean."""
    crop_B4: Float[np.ndarray, "B 4"]
    """Top, left, height, width of the window that fills the picture, as shares of the sides."""
    elastic_B2GG: Float[np.ndarray, "B 2 G G"] | None
    """Displacement of the control points as a share of the shorter side."""
    window_B2: Float[np.ndarray, "B 2"]
    """Where a picture stored larger than the network's input is cut: share in [0, 1) of the free range."""
    brightness_B: Float[np.ndarray, " B"]
    contrast_B: Float[np.ndarray, " B"]
    saturation_B: Float[np.ndarray, " B"]
    hue_B: Float[np.ndarray, " B"]
    """Radians on the colour circle."""
    gamma_B: Float[np.ndarray, " B"]
    """Exponents."""
    blur_B: Float[np.ndarray, " B"]
    """Standard deviation in pixels."""
    noise_B: Float[np.ndarray, " B"]
    """Standard deviation, pictures in [0, 1]."""
    noise_seed_B: UInt64[np.ndarray, " B"]
    partner_B: Int[np.ndarray, " B"]
    """Row of this batch that is mixed in."""
    mixup_B: Float[np.ndarray, " B"]
    """Share of the own picture; 1: no MixUp."""
    cutmix_B4: Float[np.ndarray, "B 4"]
    """Top, left, bottom, right of the box that the partner fills, as shares; without area: no CutMix."""
    mixup_binary: bool
    """The heavier of the two masks instead of both with their weights."""

    def rows(self, chosen_B: Bool[np.ndarray, " B"]) -> AugmentParams:
        """Of the chosen pictures alone; `partner_B` still counts in the whole batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {name: v[chosen_B] if isinstance(v, np.ndarray) else v for name, v in values.items()}
        return AugmentParams(**chosen)


def identity(pictures: int) -> AugmentParams:
    """The parameters that leave `pictures` pictures as they are, bit for bit."""
    zeros, ones = np.zeros(pictures), np.ones(pictures)
    pairs, off = np.zeros((pictures, 2)), np.zeros(pictures, dtype=bool)
    return AugmentParams(
        flip_B=off,
        flip_vertical_B=off,
        angle_B=zeros,
        scale_B=ones,
        shift_B2=pairs,
        shear_B2=pairs,
        crop_B4=np.tile([0.0, 0.0, 1.0, 1.0], (pictures, 1)),
        elastic_B2GG=None,
        window_B2=pairs,
        brightness_B=ones,
        contrast_B=ones,
        saturation_B=ones,
        hue_B=zeros,
        gamma_B=ones,
        blur_B=zeros,
        noise_B=zeros,
        noise_seed_B=np.zeros(pictures, dtype=np.uint64),
        partner_B=np.arange(pictures),
        mixup_B=ones,
        cutmix_B4=np.zeros((pictures, 4)),
        mixup_binary=False,
    )


COLUMNS = (
    *("flip", "flip_vertical", "geometry", "angle", "scale", "shift_y", "shift_x", "shear_y", "shear_x"),
    *("crop_area", "crop_aspect", "crop_y", "crop_x", "window_y", "window_x"),
    *("brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise", "noise_seed"),
    *("partner", "mix", "which", "mixup", "cutmix", "cutmix_y", "cutmix_x", "spare_1", "spare_2"),
)
"""One uniform number each, used or not: switching one thing on changes no other. The elastic grid follows."""


def draw(
    ids_B: Int[np.ndarray, " B"] | Sequence[int],
    epoch: int,
    config: AugmentConfig,
    *,
    seed: int,
    copies_B: Int[np.ndarray, " B"] | Sequence[int] | None = None,
    strength: float = 1.0,
) -> AugmentParams:
    """Parameters of the pictures `ids_B` (>= 0) in this epoch; `copies_B` says which copy each one is.

    `strength` in [0, 1] scales every range and the chance of MixUp and CutMix; at 0 only flips (and windows)
    are left. `config.probability` is not scaled: it decides for a picture about all geometry but the flips.
    With `config.copies`, copy 0 is the original; with `copies_kind: flips` copy 1 is mirrored, copy 2
    upturned, copy 3 both, and so on in turn, the same in every epoch.
    """
    copies = np.zeros(len(ids_B), dtype=np.int64) if copies_B is None else np.asarray(copies_B)
    table_BN = _uniforms(ids_B, copies, epoch, seed, elastic=config.elastic > 0)
    u = dict(zip(COLUMNS, table_BN.T, strict=False))
    s = {name: 2 * column - 1 for name, column in u.items()}
    augmented_B = np.full(len(copies), config.copies == 0) | (copies > 0)
    flip_B = config.flip & (u["flip"] < 0.5) & augmented_B
    flip_vertical_B = config.flip_vertical & (u["flip_vertical"] < 0.5) & augmented_B
    if config.copies and config.copies_kind == "flips":
        augmented_B = np.zeros_like(augmented_B)
        flip_B, flip_vertical_B = copies % 2 == 1, copies // 2 % 2 == 1
    much_B = strength * augmented_B
    geometry_B = much_B * (u["geometry"] < config.probability)
    mixup_B, cutmix_B4 = _mixes(config, u, much_B)
    return AugmentParams(
        flip_B=flip_B,
        flip_vertical_B=flip_vertical_B,
        angle_B=math.radians(config.rotate) * geometry_B * s["angle"],
        scale_B=np.exp(math.log1p(config.scale) * geometry_B * s["scale"]),
        shift_B2=config.shift * _pair(geometry_B * s["shift_y"], geometry_B * s["shift_x"]),
        shear_B2=math.radians(config.shear) * _pair(geometry_B * s["shear_y"], geometry_B * s["shear_x"]),
        crop_B4=_crops(1 - (1 - config.crop) * geometry_B * u["crop_area"], u, s),
        elastic_B2GG=_elastic(config.elastic * geometry_B, table_BN) if config.elastic else None,
        window_B2=_pair(u["window_y"], u["window_x"]),
        brightness_B=1 + config.brightness * much_B * s["brightness"],
        contrast_B=1 + config.contrast * much_B * s["contrast"],
        saturation_B=1 + config.saturation * much_B * s["saturation"],
        hue_B=2 * math.pi * config.hue * much_B * s["hue"],
        gamma_B=np.exp(math.log1p(config.gamma) * much_B * s["gamma"]),
        blur_B=config.blur * much_B * u["blur"],
        noise_B=config.noise * much_B * u["noise"],
        noise_seed_B=(u["noise_seed"] * 2**53).astype(np.uint64),
        partner_B=_partners(u["partner"]),
        mixup_B=mixup_B,
        cutmix_B4=cutmix_B4,
        mixup_binary=config.mixup_mask == "binary",
    )


def next_strength(strength: float, train_loss: float, val_loss: float) -> float:
    """The strength of the next epoch, for `strength: adaptive`; in [0, 1].

        gap  = (val_loss - train_loss) / train_loss
        next = clip(strength + clip(gap, -0.1, 0.1), 0, 1)

    Where validation is worse than training the network learns its pictures by heart, and they are made more
    varied; where training is worse they are too hard, and made easier. The training loss is that of the
    augmented pictures and rises with the strength, so the rule settles where both losses meet. Losses are
    >= 0; one that is not finite changes nothing.
    """
    if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
        return strength
    gap = (val_loss - train_loss) / max(train_loss, 1e-12)
    return min(max(strength + min(max(gap, -0.1), 0.1), 0.0), 1.0)


def _uniforms(
    ids_B: Int[np.ndarray, " B"] | Sequence[int],
    copies_B: Int[np.ndarray, " B"],
    epoch: int,
    seed: int,
    *,
    elastic: bool,
) -> Float[np.ndarray, "B N"]:
    """Uniform numbers in [0, 1): Philox with key (seed, epoch), counting from (0, 0, copy, id).

    A counter-based generator (Salmon et al. 2011) has no state to carry: each picture reads its own place in
    a sequence, far too long to overlap with its neighbours'.
    """
    numbers = len(COLUMNS) + 2 * GRID * GRID * elastic
    table_BN = np.empty((len(copies_B), numbers))
    for row, (picture, copy) in enumerate(zip(ids_B, copies_B, strict=True)):
        counters = np.random.Philox(key=[seed % 2**64, epoch], counter=[0, 0, int(copy), int(picture)])
        np.random.Generator(counters).random(out=table_BN[row])
    return table_BN


def _pair(first_B: Float[np.ndarray, " B"], second_B: Float[np.ndarray, " B"]) -> Float[np.ndarray, "B 2"]:
    return np.stack([first_B, second_B], axis=1)


def _crops(
    area_B: Float[np.ndarray, " B"], u: dict[str, np.ndarray], s: dict[str, np.ndarray]
) -> Float[np.ndarray, "B 4"]:
    """Windows of exactly these areas: the aspect is held where neither side exceeds the picture's."""
    aspect_B = np.exp(np.minimum(ASPECT, -np.log(area_B)) * s["crop_aspect"])
    height_B = np.minimum(np.sqrt(area_B / aspect_B), 1.0)
    width_B = np.minimum(np.sqrt(area_B * aspect_B), 1.0)
    return np.stack([u["crop_y"] * (1 - height_B), u["crop_x"] * (1 - width_B), height_B, width_B], axis=1)


def _elastic(
    most_B: Float[np.ndarray, " B"], table_BN: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, "B 2 G G"]:
    uniform = table_BN[:, len(COLUMNS) :].reshape(-1, 2, GRID, GRID)
    moved: Float[np.ndarray, "B 2 G G"] = most_B[:, None, None, None] * (2 * uniform - 1)
    return moved


def _partners(u_B: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Any other row of the batch, all alike; itself in a batch of one."""
    pictures = len(u_B)
    steps = 1 + np.floor(u_B * (pictures - 1)).astype(np.int64)
    partners_B: Int[np.ndarray, " B"] = (np.arange(pictures) + steps) % max(pictures, 1)
    return partners_B


def _mixes(
    config: AugmentConfig, u: dict[str, np.ndarray], chance_B: Float[np.ndarray, " B"]
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "B 4"]]:
    """Own shares of MixUp, and CutMix's boxes of area 1 - lambda before they are clipped at the borders."""
    pictures = len(chance_B)
    mixed_B = (u["mix"] < chance_B) & (pictures > 1)
    share_of_mixup = (config.mixup > 0) * (0.5 if config.cutmix else 1.0)
    blended_B = mixed_B & (u["which"] < share_of_mixup)
    pasted_B = mixed_B & ~blended_B & (config.cutmix > 0)
    mixup_B, cutmix_B4 = np.ones(pictures), np.zeros((pictures, 4))
    if blended_B.any():
        mixup_B[blended_B] = betaincinv(config.mixup, config.mixup, u["mixup"][blended_B])
    if pasted_B.any():
        half_B = np.sqrt(1 - betaincinv(config.cutmix, config.cutmix, u["cutmix"][pasted_B])) / 2
        y_B, x_B = u["cutmix_y"][pasted_B], u["cutmix_x"][pasted_B]
        box_B4 = np.stack([y_B - half_B, x_B - half_B, y_B + half_B, x_B + half_B], axis=1)
        cutmix_B4[pasted_B] = np.clip(box_B4, 0.0, 1.0)
    return mixup_B, cutmix_B4
