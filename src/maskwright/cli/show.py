from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated

import typer

from maskwright.cli.answer import Answer


def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="A run, its name, a model folder, or hf:user/name[@revision]."
        ),
    ],
) -> Answer:
    """Show the model card of a run or a model folder."""
    from rich.markdown import Markdown

    from maskwright.errors import RunError
    from maskwright.predict.model_folder import find_model, load_spec
    from maskwright.receipt import read_receipt, receipt_facts

    folder = find_model(run)
    spec = load_spec(folder)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else spec.model_dump_json(indent=2)
    scores = {
        file.parent.name: json.loads(file.read_text()) for file in folder.parent.glob("scores/*/scores.json")
    }
    facts: dict[str, str] = {}
    with suppress(RunError):  # a model folder alone has none, nor have old runs
        facts = receipt_facts(read_receipt(folder.parent / "receipt.json"))
    document = {"model": folder, "spec": spec.model_dump(mode="json"), "scores": scores, "receipt": facts}
    return Answer(document, Markdown(text.partition("\n---\n")[2] or text))
