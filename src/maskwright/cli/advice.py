"""A word that no verb knows, answered with the one that was meant."""

from __future__ import annotations

import difflib
from typing import Any

from maskwright.cli.options import SHORT


def usage_line(error: Any) -> str:
    """One line for an error of Typer's parser: what is wrong, and what to write instead.

    `error` is looked at by its attributes: newer versions of Typer carry their own copy of click's classes.
    """
    problem = " ".join(error.format_message().split()).rstrip(".")
    context: Any = getattr(error, "ctx", None)
    command: Any = getattr(context, "command", None)
    path = context.command_path if context else "maskwright"
    if problem.startswith("No such option"):
        options = [name for option in command.params for name in option.opts if name.startswith("--")]
        name = error.option_name
        return f"{path} has no option {name}; {_option_hint(name, options) or f'`{path} -h` lists them'}"
    verbs = list(getattr(command, "commands", {}))
    if problem.startswith("No such command"):
        word = problem.split("'")[1]
        close = difflib.get_close_matches(word, verbs, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(verbs)}"
        return f"{path} has no verb {word!r}; {hint}"
    if verbs:
        return f"{path} needs a verb; there are: {', '.join(verbs)}"
    return f"{problem}; `{path} -h` shows an example"


def _option_hint(name: str, options: list[str]) -> str | None:
    """Familiar names of other tools lead to our option, or to our recipe key where overrides are taken."""
    word = name.lstrip("-").replace("-", "_")
    if "--model" in options:  # a verb that takes recipe keys
        from maskwright.config import ALIASES, recipe_keys

        keys = list(recipe_keys())
        leaves = {key.rsplit(".", 1)[-1]: key for key in keys}
        key = word if word in keys else ALIASES.get(word) or leaves.get(word)
        short = {key: option for option, key in SHORT.items()}
        if key in short:
            return f"did you mean {short[key]}?"
        if key is not None:
            return f"did you mean {key}=...? (recipe keys are written without dashes)"
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else None
