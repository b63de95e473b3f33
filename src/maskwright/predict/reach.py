"""How far a network looks: measured on the network itself, not read off its name.

What decides is its structure, not its weights. So a copy gets weights that are all positive, activations that are
nowhere flat, and means in place of maxima: no path through it is dead, and no two cancel. An output pixel depends on
exactly the input pixels where its gradient is not 0 (the theoretical receptive field of Luo et al. 2016, section 2).
Strips one pixel wide, which the network pads by itself, show one axis at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Shifts that are tried."""
LENGTHS = (512, 2048, 4096)
"""Of a strip: a longer one only where the field of view does not end in the one before."""
FLAT = 0.5
"""A gradient that falls by less over the outer half of a strip comes of something that looks at the whole picture: what
convolutions add falls ever faster."""
OUTMOST = STRIDES[-1]
"""Pixels at either end of a strip: a cell of the coarsest grid."""
SAME = 1e-3
"""Largest difference of two gradients, relative to either, that may come of rounding."""
OUTER = 0.45
"""Share of a kernel's weight that lies on either end, so that 150 kernels leave a gradient that float32 holds ..."""
SEED = 1e15
"""... if it starts as large as this."""


@dataclass(frozen=True)
class Context:
    """What the network's answer at a pixel depends on, in pixels of its input."""

    reach: int
    """Pixels further up, down, left or right than this do not count; at most `stride` - 1 too large. Of no meaning, 0,
    where `whole`."""
    stride: int
    """A power of two. Moving the picture by so many pixels moves the answer, and changes nothing else."""
    whole: bool = False
    """Every pixel counts (attention, pooling over the picture), or the answer depends on the picture's size."""


WHOLE = Context(0, 1, whole=True)


def widest(contexts: Iterable[Context]) -> Context:
    """Of networks whose answers are averaged: the furthest reach, the largest stride."""
    contexts = tuple(contexts)
    if any(context.whole for context in contexts):
        return WHOLE
    return Context(max(each.reach for each in contexts), max(each.stride for each in contexts))


def measure_context(network: nn.Module, channels: int) -> Context:
    """Of a network that maps B C H W to B K H W in evaluation mode; it is left as it is. Takes seconds."""
    shadow = _structure(network)
    down = _measure_along(shadow, channels, axis=2)
    return down if down.whole else widest([down, _measure_along(shadow, channels, axis=3, known=down.stride)])


def _measure_along(shadow: nn.Module, channels: int, axis: int, known: int | None = None) -> Context:
    """`known`: a stride to try first."""
    for length in LENGTHS:
        views = _Views(shadow, channels, axis, length)
        try:
            stride = known if known and views.moves(known) else views.stride()
            return Context(views.reach(stride), stride)
        except _CutOff as cut:
            if cut.flat and length > LENGTHS[0]:
                break
        except _Restless:
            break
    return WHOLE


class _CutOff(Exception):
    """A field of view is longer than the strip; `flat`: it does not look as if it would end."""

    def __init__(self, *, flat: bool) -> None:
        self.flat = flat


class _Restless(Exception):
    """No shift leaves the answer as it is."""


class _Views:
    """Gradients of pixels in the middle of a strip, with respect to all of the strip."""

    def __init__(self, shadow: nn.Module, channels: int, axis: int, length: int) -> None:
        size = (length, 1) if axis == 2 else (1, length)
        self.length, self.axis = length, axis
        self.middle = length // 2
        self.strip = torch.full((1, channels, *size), 0.5, requires_grad=True)
        with _Alive():
            self.answer = shadow(self.strip).sum(dim=(0, 1, 5 - axis))
        self.known: dict[int, Tensor] = {}

    def view(self, phase: int) -> Tensor:
        """Size of the gradient along the strip. Raises _CutOff."""
        if phase not in self.known:
            pixel = SEED * self.answer[self.middle + phase]
            (gradient,) = torch.autograd.grad(pixel, self.strip, retain_graph=True)
            along = gradient.double().abs().sum(dim=(0, 1, 5 - self.axis))
            if along[0] > 0 or along[-1] > 0:
                raise _CutOff(flat=_is_flat(along))
            self.known[phase] = along
        return self.known[phase]

    def reach(self, stride: int) -> int:
        """From pixel to pixel both ends of the view move on or stay, and after `stride` pixels they have moved by so
        many. So no pixel in between looks further back than the first one does, or further on than the last.
        """
        seen = self.view(0).nonzero().flatten() - self.middle
        return int(max(-seen[0], seen[-1])) + stride - 1

    def stride(self) -> int:
        """The smallest shift that only moves the view. Raises _CutOff, _Restless."""
        low, high = 0, len(STRIDES)  # a multiple of a shift that works does, too
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.moves(STRIDES[middle]) else (middle + 1, high)
        if low == len(STRIDES):
            raise _Restless
        return STRIDES[low]

    def moves(self, shift: int) -> bool:
        here, there = self.view(0)[: self.length - shift], self.view(shift)[shift:]
        return bool(((here - there).abs() <= SAME * torch.maximum(here, there)).all())


def _is_flat(along: Tensor) -> bool:
    quarter = len(along) // 4
    outer, inner = along[[*range(OUTMOST), *range(-OUTMOST, 0)]], along[quarter : quarter + OUTMOST]
    return not bool(outer.max() < FLAT * inner.max())  # or not a number


def _structure(network: nn.Module) -> nn.Module:
    """The same layers on the CPU, with positive weights: without activations the mean would stay."""
    shadow = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    source = torch.Generator().manual_seed(0)
    for module in shadow.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.is_floating_point():
                _fill(module, name, tensor, source)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return shadow


def _fill(module: nn.Module, name: str, tensor: Tensor, source: torch.Generator) -> None:
    """Random, because channels that are alike would disappear in a norm."""
    if name == "bias":
        tensor.zero_()
        return
    tensor.uniform_(0.5, 1.5, generator=source)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        for axis in (2, 3):
            tensor.mul_(_outer(tensor.shape[axis]).view(-1, *(1,) * (3 - axis)))
    if isinstance(module, nn.ConvTranspose2d):
        tensor.mul_(math.prod(module.stride) * module.groups / tensor.shape[0])
    elif tensor.ndim > 1:
        tensor.div_(tensor[0].numel() if tensor.ndim != 4 else tensor.shape[1])


def _outer(taps: int) -> Tensor:
    """Weights of a kernel along one axis, of sum 1."""
    weights = torch.full((taps,), (1 - 2 * OUTER) / max(taps - 2, 1))
    if taps < 3:
        return torch.full((taps,), 1 / taps)
    weights[[0, -1]] = OUTER
    return weights


def _mean_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """In place of the maximum, which depends on one of its pixels at a time."""
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode)


def _same(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


def _bounded(input: Tensor, *_: Any, **__: Any) -> Tensor:
    """x / (1 + |x|), where what is bounded may be a factor: products of many must not overflow."""
    return F.softsign(input)


_INSTEAD: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **dict.fromkeys((F.relu, F.relu6, F.hardtanh, F.silu, F.mish, F.gelu, F.hardswish, F.softplus), _same),
    **dict.fromkeys((F.elu, F.selu, F.celu, F.leaky_relu, F.prelu, F.rrelu, torch.prelu), _same),
    **dict.fromkeys((torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _same),
    **dict.fromkeys((F.sigmoid, F.hardsigmoid, F.tanh, torch.sigmoid, torch.sigmoid_, torch.tanh), _bounded),
    **dict.fromkeys((Tensor.sigmoid, Tensor.sigmoid_, Tensor.tanh), _bounded),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _mean_pool),
}


class _Alive(TorchFunctionMode):
    """Within, activations are nowhere flat and maxima are means."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        instead: Callable[..., Any] = _INSTEAD.get(func, func)
        return instead(*args, **(kwargs or {}))
