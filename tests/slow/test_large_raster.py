"""A raster goes into a store window by window: more memory for a larger one would be a raster held whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PEAKS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from large_raster import KEYS, MAIN, peak_of, write_raster

peaks = []
for side in map(int, sys.argv[4:]):
    root = Path(sys.argv[2]) / str(side)
    write_raster(root / "data", side, sys.argv[3])
    (root / "data/dataset.yaml").write_text(KEYS.format(tile=256, block=1024))
    words = ["data", "prepare", str(root / "data"), "--size", "64,64", "--workers", "2"]
    peaks.append(peak_of([sys.executable, "-c", MAIN, *words], root / "cache")[2])
print(json.dumps(peaks))
"""


def peaks(root: Path, layout: str, *sides: int) -> list[int]:
    """Peak memory in bytes of cutting rasters of these sides into tiles of 256 within blocks of 1024."""
    words = [sys.executable, "-c", PEAKS, str(BENCHMARKS), str(root), layout, *map(str, sides)]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    measured: list[int] = json.loads(told)
    return measured


@pytest.mark.slow
@pytest.mark.ci
def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    """6000 x 6000 x 3 are 108 MB, its labels 36; in the other raster they are 12 and 4."""
    small, large = peaks(tmp_path, "tiles", 2000, 6000)
    assert large - small < 40e6


@pytest.mark.slow
def test_what_is_kept_of_strips_has_a_bound(tmp_path: Path) -> None:
    """10,500 x 10,500 are 331 MB and 110 of labels; GDAL keeps 128 MiB of them."""
    small, large = peaks(tmp_path, "strips", 1750, 10_500)
    assert large - small < 128 * 2**20 + 60e6
