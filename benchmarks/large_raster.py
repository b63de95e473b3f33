"""A raster larger than memory allows: generated, tiled into a store, and what that took at its peak.

Picture (three bands of 8 bits) and labels are written strip by strip, so the generator is small too. Every part runs in
a process of its own, whose peak is that of the operating system, the libraries that it loads included; the first line
says how much those take alone.

    python benchmarks/large_raster.py                     # 30,000 x 30,000, in tiles
    python benchmarks/large_raster.py --layout strips
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE, STRIP = 30_000, 512
LIMIT = 1_000_000_000
"""Bytes that `maskwright data prepare` may take."""
LIBRARIES = "import numpy, rasterio, torch, maskwright.data.store, maskwright.cli.data"
MAIN = "import sys; from maskwright.cli.main import main; sys.exit(main())"
KEYS = """format: geotiff
classes: [ground, field, building]
tile: {tile}
block: {block}
"""


def write_raster(root: Path, side: int, layout: str) -> None:
    """Fields and round buildings on grainy ground, the labels beside it: `root` becomes a folder data set."""
    import numpy as np
    import rasterio

    random = np.random.default_rng(0)
    shared = {"driver": "GTiff", "height": side, "width": side, "dtype": "uint8", "compress": "deflate"}
    shared |= {"zlevel": 1, "num_threads": "all_cpus", "crs": "EPSG:32632", "bigtiff": "if_safer"}
    shared |= {"transform": rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_400_000)}
    shared |= (
        {"tiled": True, "blockxsize": STRIP, "blockysize": STRIP} if layout == "tiles" else {"blockysize": 8}
    )
    grain = random.integers(0, 24, (STRIP, side), np.uint8)
    colours = np.array([[90, 80, 70], [60, 130, 50], [170, 150, 150]], np.uint8)
    planted = random.random((side // 310 + 1, side // 410 + 1)) < 0.4
    radii = random.integers(0, 90, (side // 700 + 1, side // 700 + 1))
    columns = np.arange(side, dtype=np.int32)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    with (
        rasterio.open(root / "images/ortho.tif", "w", count=3, interleave="pixel", **shared) as picture,
        rasterio.open(root / "masks/ortho.tif", "w", count=1, **shared) as labels,
    ):
        for top in range(0, side, STRIP):
            rows = np.arange(top, min(top + STRIP, side), dtype=np.int32)[:, None]
            label = planted[rows // 310, columns // 410].astype(np.uint8)
            radius = radii[rows // 700, columns // 700]
            label[(rows % 700 - 350) ** 2 + (columns % 700 - 350) ** 2 < radius**2] = 2
            window = rasterio.windows.Window(0, top, side, len(rows))
            labels.write(label, 1, window=window)
            for band in range(3):
                picture.write(colours[label, band] + grain[: len(rows)], band + 1, window=window)


def peak_of(words: list[str], cache: Path) -> tuple[str, float, int]:
    """What a command printed, the seconds it took, and the most bytes that it had in memory at once.

    To be asked by a small process: Linux counts what a process has before it becomes another one.
    """
    begun = time.monotonic()
    environment = {**os.environ, "MASKWRIGHT_CACHE": str(cache)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {said}")
    return said.strip(), time.monotonic() - begun, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=SIDE, help="of the raster, in pixels")
    parser.add_argument("--layout", choices=("tiles", "strips"), default="tiles", help="of the file")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--fit", choices=("resize", "crop"), default="resize")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_raster(options.write, options.side, options.layout)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root, cache = Path(scratch) / "data", Path(scratch) / "cache"
        bare = peak_of([sys.executable, "-c", LIBRARIES], cache)[2]
        print(f"the libraries alone            {bare / 1e6:6.0f} MB", flush=True)
        writing = [sys.executable, __file__, "--write", str(root), "--side", str(options.side)]
        _, seconds, _ = peak_of([*writing, "--layout", options.layout], cache)
        size = sum(file.stat().st_size for file in root.rglob("*.tif"))
        pixels = f"{options.side:,} x {options.side:,} x 3"
        print(f"{pixels} in {options.layout}, {size / 1e9:.2f} GB: written in {seconds:.0f} s", flush=True)
        (root / "dataset.yaml").write_text(KEYS.format(tile=options.tile, block=options.block))
        command = [sys.executable, "-c", MAIN, "data", "prepare", str(root), "--fit", options.fit]
        command += ["--workers", str(options.workers)]
        peaks = []
        for what in ("opened and stored", "opened again"):
            said, seconds, peak = peak_of(command, cache)
            peaks.append(peak)
            verdict = "within" if peak < LIMIT else "OVER"
            print(
                f"{what:<18} {seconds:6.0f} s   {peak / 1e6:6.0f} MB at its peak, {verdict} 1 GB", flush=True
            )
        stored = sum(file.stat().st_size for file in (cache / "stores").rglob("*") if file.is_file())
        print(f"{' '.join(said.split())}\nthe store: {stored:,} bytes", flush=True)
    raise SystemExit(max(peaks) >= LIMIT)


if __name__ == "__main__":
    main()
