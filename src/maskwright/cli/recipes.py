from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from maskwright.cli.answer import Answer, table


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this recipe as YAML.")] = None,
) -> Answer:
    """List the named recipes, or print one.

    What it prints is a file to start your own recipe from."""
    from maskwright.config import load_recipe, read_recipe_text, recipe_names

    if name is not None:
        return Answer(load_recipe(name).model_dump(mode="json"), read_recipe_text(name).rstrip())
    found = {name: read_recipe_text(name).partition("\n")[0].removeprefix("# ") for name in recipe_names()}
    listed = table(("recipe", "what it is"), [])
    for _, group in groupby(found.items(), lambda entry: entry[0].rpartition("/")[0]):
        listed.add_section()  # an empty line between folders
        for row in group:
            listed.add_row(*row)
    return Answer({"recipes": found}, listed)
