"""Whether an error says that memory ran out."""

from __future__ import annotations

import torch

from maskwright.errors import RunError

SAID = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "failed to allocate memory",
)


class OutOfMemory(RunError):
    """A runtime of exported files ran out of it."""


def out_of_memory(error: Exception) -> bool:
    """CUDA and Python have an exception for it; the CPU's allocator, the C++ runtime, oneDNN and ONNX Runtime only have
    words."""
    said = str(error).lower()
    known = isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemory)
    return known or any(words in said for words in SAID)
