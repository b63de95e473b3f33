"""The table of models: what each costs, and why one of them cannot be had."""

from __future__ import annotations

from maskwright.cli.models import _cells, _row
from maskwright.models import build_model, flops, parameters


def test_a_row_counts_without_memory_what_the_model_has() -> None:
    model = build_model("unet", 4, 3)
    expected = {
        "name": "unet",
        "parameters": parameters(model),
        "flops": flops(model, (32, 48), 4),
        "problem": None,
    }
    assert _row("unet", (32, 48), 4, 3, timed=False) == expected


def test_a_timed_row_says_how_long_a_prediction_takes() -> None:
    row = _row("unet", (16, 16), 1, 2, timed=True)
    assert 0 < row["latency"]["fastest"] <= row["latency"]["median"] <= row["latency"]["slowest"]
    assert len(_cells(row, timed=True)) == len(_cells(row, timed=False)) + 3


def test_a_model_that_cannot_be_had_says_why() -> None:
    row = _row("umet", (16, 16), 1, 2, timed=True)
    assert row["parameters"] is None
    assert row["problem"].startswith("there is no model 'umet'; did you mean unet")
    assert _cells(row, timed=True) == ["umet", None, None, None, None, None, row["problem"]]
