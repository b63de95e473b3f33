"""Processes side by side: one that fails does not stop the rest, a study folder has one owner, changes are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from maskwright.errors import ConfigError, RunError
from maskwright.study.job import Job, read_costs
from maskwright.study.plan import Study, make_study, parse_plan
from maskwright.study.run import _memory, check_unchanged, run_study
from maskwright.study.work import log_file, only_one, reason, run_jobs, workers_that_fit


class Script(Job):
    """A job whose process runs the Python code in `data` instead of training."""

    def command(self) -> list[str]:
        return [sys.executable, "-S", "-c", self.data, self.path]


def script(folder: Path, name: str, code: str) -> Script:
    return Script(str(folder / name), {}, code, None, "validation", 1, "cpu", False)


WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('done')"


def test_a_failed_run_is_named_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    codes = {"a": WRITE, "b": "import sys; sys.exit('the loss became nan')", "c": WRITE, "d": WRITE}
    jobs = [script(tmp_path, name, code) for name, code in codes.items()]
    heard: list[tuple[str, str]] = []
    failed = run_jobs(iter(jobs), 4, workers=1, ended=lambda job, outcome: heard.append((job.name, outcome)))
    assert [job.name for job in failed] == ["b"]
    assert heard == [("a", "done"), ("b", "failed"), ("c", "done"), ("d", "done")]
    assert reason(failed[0]) == "the loss became nan"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d", "logs"]


def test_what_died_without_a_word_is_told_so(tmp_path: Path) -> None:
    (failed,) = run_jobs(iter([script(tmp_path, "a", "import os; os.kill(os.getpid(), 9)")]), 1, workers=1)
    assert "without a word" in reason(failed)
    assert str(log_file(failed)) in reason(failed)


def test_no_more_runs_than_workers(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; own = pathlib.Path(sys.argv[1]); own.write_text('');"
        "time.sleep(0.3); print(len(list(own.parent.glob('run-*')))); own.unlink()"
    )
    jobs = [script(tmp_path, f"run-{number}", code) for number in range(5)]
    assert run_jobs(iter(jobs), 5, workers=2) == []
    seen = [int(log_file(job).read_text()) for job in jobs]
    assert max(seen) == 2


def test_a_run_that_falls_behind_is_ended_and_has_not_failed(tmp_path: Path) -> None:
    heard: list[str] = []
    failed = run_jobs(
        iter([script(tmp_path, "slow", "import time; time.sleep(60)"), script(tmp_path, "fast", WRITE)]),
        2,
        workers=2,
        falls_behind=lambda job: job.name == "slow",
        ended=lambda job, outcome: heard.append(f"{job.name} {outcome}"),
    )
    assert failed == []
    assert sorted(heard) == ["fast done", "slow pruned"]


def test_ctrl_c_ends_the_runs_at_work(tmp_path: Path) -> None:
    def jobs() -> Iterator[Job]:
        code = "import time, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(''); time.sleep(60)"
        yield script(tmp_path, "slow", code)
        while not (tmp_path / "slow").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(), 2, workers=2)
    assert time.monotonic() - begun < 40


HOLD = """
import os, sys, time
from pathlib import Path
from maskwright.study.work import only_one
with only_one(Path(sys.argv[1])) as lock:
    if os.fork() == 0:  # a run, which inherits the lock
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_study_folder_has_one_owner_and_waits_for_a_dead_one_s_runs(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "2.5"], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "mine\n"
    with pytest.raises(RunError, match=f"worked on by process {owner.pid}"), only_one(tmp_path):
        pass
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with only_one(tmp_path):  # its run still sleeps for a while
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_workers_share_the_cores() -> None:
    assert workers_that_fit(1, "cpu") == len(os.sched_getaffinity(0))
    assert workers_that_fit(10_000, "cpu") == 1


TEXT = "cells: {a: {}, b: {train.batch: 4}}\nseeds: [0, 1]\nbudget: 9s\n"


def study(text: str = TEXT) -> Study:
    return make_study("mine", parse_plan(text, "mine"))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A study folder that TEXT was begun in."""
    (tmp_path / "study.json").write_text(json.dumps(_memory(study(), "print")))
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("[0, 1]", "[1, 2, 0]"),
        TEXT.replace("b:", "c: {train.batch: 2}, b:"),
        TEXT + "metric: miou\nclaims: [{says: x, better: a, than: b}]",
        TEXT.replace("{}", "{train.batch: 16}"),  # the default, written out
    ],
)
def test_new_cells_seeds_and_claims_are_welcome(begun: Path, text: str) -> None:
    check_unchanged(study(text), begun, "print")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("batch: 4", "batch: 8"), "train.batch of cell 'b' was 4 and is 8"),
        (TEXT + "set: {optim.name: sgd}", "optim.name of cell 'a' was adamw and is sgd"),
        (TEXT.replace("b:", "c:"), "cell 'b' is gone"),
        (TEXT.replace("[0, 1]", "[0]"), "seeds 1 are gone"),
        (TEXT.replace("9s", "8s"), "budget was 9s and is 8s"),
        (TEXT + "threads: 2", "threads was 1 and is 2"),
        (TEXT + "split: test", "split was validation and is test"),
    ],
)
def test_what_would_mix_two_studies_is_refused(begun: Path, text: str, said: str) -> None:
    with pytest.raises(RunError, match=f"holds another study: {said}"):
        check_unchanged(study(text), begun, "print")


def test_other_data_and_a_damaged_memory_are_refused(begun: Path) -> None:
    with pytest.raises(RunError, match="the data are not those"):
        check_unchanged(study(), begun, "another")
    (begun / "study.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        check_unchanged(study(), begun, "print")


def test_more_trials_go_on_and_another_space_does_not(tmp_path: Path) -> None:
    text = "seeds: [0]\nsearch: {trials: 3, space: {model.width: [4, 8]}}"
    (tmp_path / "study.json").write_text(json.dumps(_memory(study(text), "print")))
    check_unchanged(study(text.replace("3", "9")), tmp_path, "print")
    with pytest.raises(RunError, match="search was"):
        check_unchanged(study(text.replace("[4, 8]", "[4, 9]")), tmp_path, "print")


def test_a_study_that_cannot_be_run_is_refused_before_any_work(discs: Path, tmp_path: Path) -> None:
    def refusal(text: str, data: str | None = str(discs)) -> str:
        made = study(text)
        with pytest.raises(ConfigError) as caught:
            run_study(replace(made, plan=made.plan.model_copy(update={"data": data})), tmp_path / "out")
        return str(caught.value)

    assert "names no data" in refusal("seeds: [0]", None)
    assert refusal("cells: {a: {}, odd: {model.name: unett}}").startswith(
        "cell 'odd': there is no model 'unett'"
    )
    assert "cell 'odd'" in refusal("cells: {odd: {model.name: dual-unet, model.attention: [gate]}}")
    assert not (tmp_path / "out").exists()


def test_costs_that_cannot_be_read_are_measured_anew(tmp_path: Path) -> None:
    assert read_costs(tmp_path) == {}
    (tmp_path / "costs.json").write_text("[1]")
    assert read_costs(tmp_path) == {}
    (tmp_path / "costs.json").write_text('{"flops": 3}')
    assert read_costs(tmp_path) == {"flops": 3.0}
