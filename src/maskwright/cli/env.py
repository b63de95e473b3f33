from __future__ import annotations

import os
import platform

from maskwright.cli.answer import Answer, table

PACKAGES = (
    "maskwright",
    "torch",
    "numpy",
    "pillow",
    "accelerate",
    "timm",
    "segmentation-models-pytorch",
    "safetensors",
)


def env() -> Answer:
    """Versions and hardware.

    Send it along with a question."""
    facts = environment()
    return Answer(facts, table(("what", "value"), [(key, _text(value)) for key, value in facts.items()]))


def environment() -> dict[str, object]:
    """What decides speed and bits on this machine."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from maskwright.files import cache_folder
    from maskwright.receipt import bf16_on_cpu, processor

    facts: dict[str, object] = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    facts["cpu"] = processor()
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts["threads"] = torch.get_num_threads()
    facts["bf16 on this cpu"] = bf16_on_cpu()
    facts["cuda"] = torch.version.cuda
    facts["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    facts["mps"] = torch.backends.mps.is_available()
    facts["cache"] = str(cache_folder())
    return facts


def _text(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return ("yes" if value else "no") if isinstance(value, bool) else value
