"""One run of a study, in a process of its own: `python -m maskwright.study.job JSON PARENT`.

It takes up what lies in its folder: finished runs are only scored where scores are missing, stopped ones go on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskwright.api import Run, finish
from maskwright.config import Recipe
from maskwright.errors import UserError
from maskwright.files import write_text
from maskwright.models import flops, parameters
from maskwright.models.measure import latency
from maskwright.predict.model_folder import load_model
from maskwright.predict.predictor import use_threads

FAILED, STOPPED = 1, 130


@dataclass(frozen=True)
class Job:
    """Everything that a process must know."""

    path: str
    """The run folder."""
    recipe: Mapping[str, Any]
    data: str
    budget: str | None
    split: str
    threads: int
    device: str
    skip_broken: bool
    costs: tuple[str, ...] = ()
    """Which of COSTS are measured."""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def command(self) -> list[str]:
        """Of a process that ends by itself when the one that starts it is gone."""
        return [sys.executable, "-m", "maskwright.study.job", json.dumps(asdict(self)), str(os.getpid())]

    def is_done(self) -> bool:
        """Training ends with the validation scores; then come those of another split, then the costs."""
        scored = all(_scored(Path(self.path), split) for split in {"validation", self.split})
        return scored and set(self.costs) <= set(read_costs(Path(self.path)))


def do(job: Job) -> Run:
    """The finished run. Raises UserError; KeyboardInterrupt once it was asked to stop and has saved."""
    path, recipe = Path(job.path), Recipe.model_validate(job.recipe)
    run = finish(
        path,
        recipe,
        job.data,
        budget=job.budget,
        device=job.device,
        threads=job.threads,
        skip_broken=job.skip_broken,
    )
    if not _scored(path, job.split):
        run.evaluate(job.split, device=job.device, threads=job.threads, skip_broken=job.skip_broken)
        run.report()
    if missing := [name for name in job.costs if name not in read_costs(path)]:
        with use_threads(job.threads):
            write_text(path / "costs.json", json.dumps(_measure(run, missing)))
    return run


def _scored(path: Path, split: str) -> bool:
    return (path / "scores" / split / "scores.json").is_file()


def read_costs(path: Path) -> dict[str, float]:
    """What the run's network costs, as far as it was measured."""
    try:
        said = json.loads((path / "costs.json").read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in said.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _measure(run: Run, names: Sequence[str]) -> dict[str, float]:
    spec, network = load_model(run.folder.model)
    channels, costs = int(spec.input.channels), {}
    if "parameters" in names:
        costs["parameters"] = float(parameters(network))
    if "flops" in names:
        costs["flops"] = float(flops(network, spec.input.size, channels))
    if "latency" in names:
        costs["latency"] = latency(network, spec.input.size, channels).median
    return read_costs(run.path) | costs


def main(words: Sequence[str]) -> int:
    """What went wrong is the last line on stderr."""
    job, parent = Job(**json.loads(words[0])), int(words[1])
    threading.Thread(target=_stop_when_alone, args=(parent,), daemon=True).start()
    try:
        do(job)
    except UserError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return FAILED
    except KeyboardInterrupt:
        return STOPPED
    return 0


def _stop_when_alone(parent: int) -> None:
    """Save and end when the process that asked for the run was killed: it will be asked for again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
