"""Where the work runs, in which precision, and how many pictures fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from maskwright.errors import ConfigError
from maskwright.predict.predictor import choose_device
from maskwright.tensors import Target
from maskwright.training.step import Machinery, TrainState

if TYPE_CHECKING:
    from accelerate import Accelerator

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def choose_precision(precision: Precision, device: torch.device) -> Literal["no", "bf16", "fp16"]:
    """auto: bf16 where the chip multiplies it natively; emulated bf16 would be slower than fp32."""
    if precision == "auto":
        native = {
            "cpu": torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
            "cuda": torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False),
        }
        return "bf16" if native.get(device.type, False) else "no"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=fp16 needs a GPU", "use bf16 or auto on a CPU")
    return "no" if precision == "fp32" else precision


def make_accelerator(device: str, precision: Precision) -> Accelerator:
    """accelerate's handle on device, autocast and loss scaling."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    chosen = choose_device(device)
    # The state is a process-wide singleton: a second run in one process may want another device or precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=chosen.type == "cpu")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=choose_precision(precision, chosen))


def batch_size(machinery: Machinery, state: TrainState) -> int:
    """`train.batch`; auto doubles from 16 while a step needs under 80 % of the GPU's memory. 16 on a CPU."""
    wanted, device = machinery.recipe.train.batch, machinery.device
    if isinstance(wanted, int):
        return wanted
    batch, most = 16, max(len(machinery.store.rows("train")) // 8, 16)
    if device.type != "cuda":
        return batch
    _, memory = torch.cuda.mem_get_info(device)
    while batch * 2 <= min(most, 256) and 2 * _step_memory(machinery, state, batch) < 0.8 * memory:
        batch *= 2
    return batch


def _step_memory(machinery: Machinery, state: TrainState, batch: int) -> int:
    """Bytes at the peak of a forward and backward pass on random pictures; the state is as before afterwards."""
    saved = {name: value.clone() for name, value in state.model.state_dict().items()}
    torch.cuda.reset_peak_memory_stats(machinery.device)
    size = machinery.recipe.input.size
    images = torch.rand(batch, machinery.store.channels, *size, device=machinery.device)
    with machinery.accelerator.autocast():
        outputs = state.model(images.contiguous(memory_format=torch.channels_last))
    labels = torch.zeros(batch, *size, dtype=torch.long, device=machinery.device)
    names = machinery.recipe.loss.targets
    dense = torch.zeros(batch, len(names), *size, device=machinery.device) if names else None
    machinery.loss(outputs, Target(labels, dense=dense)).backward()  # type: ignore[no-untyped-call]
    state.model.zero_grad(set_to_none=True)
    state.model.load_state_dict(saved)
    return torch.cuda.max_memory_allocated(machinery.device)
