from __future__ import annotations

from typing import Annotated

import typer

from maskwright.cli.answer import Answer


def push(
    run: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run, its name, or a model folder.")],
    to: Annotated[str, typer.Argument(metavar="hf:USER/NAME", help="The place on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else sees it.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="Yours, for the card: apache-2.0, cc-by-4.0, ..."),
    ] = None,
) -> Answer:
    """Share a model on the Hugging Face hub, or on another one that HF_ENDPOINT names.

    Weights, config and model card go there in one commit; anybody who may see it loads it as hf:USER/NAME. It needs a
    token with the right to write: `hf auth login`, or HF_TOKEN.
    """
    from maskwright.report.share import share

    pushed = share(run, to, private=private, licence=licence)
    files = "\n".join(f"  {name:<18} {size:>13,} bytes" for name, size in pushed.files.items())
    seen = "private" if pushed.private else "public"
    text = f"{files}\nare at {pushed.address} ({seen}, commit {pushed.commit[:8]})"
    document = {
        "model": str(pushed.model),
        "address": pushed.address,
        "commit": pushed.commit,
        "private": pushed.private,
        "files": pushed.files,
    }
    return Answer(document, f"{text}\nUse it with: maskwright predict {pushed.model} photo.jpg --out masks")
