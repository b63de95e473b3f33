"""A raster larger than memory allows, predicted: a mask of 20,000 x 20,000 pixels, and what that took at its peak.

The raster is written strip by strip; a small U-Net with random weights then predicts it with the command that everybody
uses, in a process of its own, whose peak is that of the operating system, the libraries that it loads included; the
first line says how much those take alone.

    python benchmarks/tiled.py                     # 20,000 x 20,000, stored in tiles
    python benchmarks/tiled.py --layout strips
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from large_raster import MAIN, peak_of

SIDE = 20_000
LIMIT = 1_000_000_000
"""Bytes that `maskwright predict` may take."""
LIBRARIES = "import numpy, rasterio, torch, maskwright.predict.tiled, maskwright.predict.clean, maskwright.cli.predict"
LARGE_RASTER = Path(__file__).with_name("large_raster.py")


def write_model(folder: Path, width: int, depth: int) -> None:
    """A U-Net that looks at pictures at their own scale. Its weights are random: its time and memory are not."""
    import torch

    from maskwright.config import InputConfig, ModelConfig
    from maskwright.predict.model_folder import ModelSpec, build_from_spec, save_model

    spec = ModelSpec(
        model=ModelConfig(name="unet", width=width, depth=depth),
        input=InputConfig(size=(256, 256), fit="crop", channels=3),
        classes=("ground", "field", "building"),
        colours=((0, 0, 0), (60, 160, 60), (200, 60, 60)),
        mean=(0.4,) * 3,
        deviation=(0.2,) * 3,
    )
    torch.manual_seed(0)
    network = build_from_spec(spec)
    for name, tensor in network.named_parameters():
        if tensor.ndim > 1:
            torch.nn.init.normal_(tensor, std=0.2, generator=torch.Generator().manual_seed(len(name)))
    save_model(folder, spec, network.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=SIDE, help="of the raster, in pixels")
    parser.add_argument("--layout", choices=("tiles", "strips"), default="tiles", help="of the file")
    parser.add_argument("--tile", help="H,W; the command chooses where nothing is said")
    parser.add_argument("--width", type=int, default=8, help="of the U-Net")
    parser.add_argument("--depth", type=int, default=3, help="of the U-Net")
    parser.add_argument("--threads", default="2", help="of the processor")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        write_model(options.model, options.width, options.depth)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root, cache, model = (Path(scratch) / name for name in ("data", "cache", "model"))
        bare = peak_of([sys.executable, "-c", LIBRARIES], cache)[2]
        print(f"the libraries alone  {bare / 1e6:6.0f} MB", flush=True)
        network = ["--width", str(options.width), "--depth", str(options.depth)]
        peak_of([sys.executable, __file__, "--model", str(model), *network], cache)
        writing = [sys.executable, str(LARGE_RASTER), "--write", str(root), "--side", str(options.side)]
        _, seconds, _ = peak_of([*writing, "--layout", options.layout], cache)
        raster = root / "images/ortho.tif"
        pixels = f"{options.side:,} x {options.side:,} x 3"
        print(
            f"{pixels} in {options.layout}, {raster.stat().st_size / 1e9:.2f} GB: written in {seconds:.0f} s"
        )
        command = [sys.executable, "-c", MAIN, "predict", str(model), str(raster), "--device", "cpu"]
        command += ["--threads", options.threads]
        command += ["--out", str(Path(scratch) / "out"), *(["--tile", options.tile] if options.tile else [])]
        said, seconds, peak = peak_of(command, cache)
        mask = Path(scratch) / "out" / "ortho.tif"
        verdict = "within" if peak < LIMIT else "OVER"
        print(
            f"predicted {seconds:6.0f} s   {peak / 1e6:6.0f} MB at its peak, {verdict} 1 GB\n"
            f"{' '.join(said.split())}\nthe mask: {mask.stat().st_size:,} bytes",
            flush=True,
        )
    raise SystemExit(peak >= LIMIT)


if __name__ == "__main__":
    main()
