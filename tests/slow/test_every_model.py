"""Every model x every check of benchmarks/every_model.py, and the table of docs/every-model.md that it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import every_model
from every_model import CHECKS, LIMITS, NAMES, Cell, Limit, page, small, verdict

PAGE = Path(__file__).resolve().parents[2] / "docs" / "every-model.md"


def marks(name: str, check: str) -> list[pytest.MarkDecorator]:
    """Each check in every run on one of ours and one of the zoo: setr-naive compiles in half of fpn's time."""
    of_zoo = "setr-naive" if check == "compile" else "fpn"
    return [pytest.mark.slow, *([pytest.mark.ci] if name in ("unet", of_zoo) else [])]


@pytest.mark.parametrize(
    ("name", "check"),
    [pytest.param(name, check, marks=marks(name, check)) for name in NAMES for check in CHECKS],
)
def test_every_model_passes_or_fails_for_the_reason_given(name: str, check: str) -> None:
    limit = LIMITS.get((name, check))
    if limit is None:
        CHECKS[check].run(small(name))
    else:
        with pytest.raises(Exception, match=limit.says):
            CHECKS[check].run(small(name))


def test_limits_are_of_models_and_checks_that_exist() -> None:
    assert {name for name, _ in LIMITS} <= set(NAMES)
    assert {check for _, check in LIMITS} <= set(CHECKS)


def cell(says: str, *, passed: bool) -> Cell:
    return Cell("unet", "export", says, passed, 1.0, "2026-01-02", "torch 2")


def test_the_table_never_says_ok_of_what_was_not_seen() -> None:
    limit, reasons = Limit("it cannot", "too .* for it"), ["another", "it cannot"]
    fine, limited = cell("ok", passed=True), cell("E: too large for it", passed=False)
    assert verdict(None, None, reasons) == verdict(None, limit, reasons) == "not run"
    assert verdict(fine, None, reasons) == "ok"
    assert verdict(limited, limit, reasons) == "no (2)"
    for faulty, known in ((limited, None), (fine, limit), (cell("E: another", passed=False), limit)):
        assert verdict(faulty, known, reasons) == every_model.FAULT


def test_a_page_has_a_row_for_each_model_and_counts_what_is_missing() -> None:
    text = page({("unet", "export"): cell("ok", passed=True)}, "torch 2")
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`").partition(":")[0] for row in rows] == list(NAMES)
    assert {len(row) for row in rows} == {1 + len(CHECKS)}
    assert sum(row.count("not run") for row in rows) == len(NAMES) * len(CHECKS) - 1
    assert rows[0][1 + list(CHECKS).index("export")] == "ok"
    assert f"{len(NAMES) * len(CHECKS) - 1} of {len(NAMES) * len(CHECKS)} cells" in text
    assert "Measured 2026-01-02 with torch 2." in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 115


def test_the_page_in_docs_is_of_these_models_and_these_checks() -> None:
    """Figures and dates are those of its run; all that does not hang on a run is what `page` writes now."""

    def lasting(text: str) -> list[str]:
        cells = re.sub(r"^(\| `[^|]*?) *\|.*$", r"\1", text, flags=re.MULTILINE)
        lines = re.sub(r"^\| (model|-+) .*$", "", cells, flags=re.MULTILINE).splitlines()
        return [line for line in lines if not line.startswith(("Measured ", "- **not run**"))]

    text = PAGE.read_text()
    assert every_model.FAULT not in text
    assert lasting(text) == lasting(page({}, "any"))
