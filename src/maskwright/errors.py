"""What went wrong, told to the person who can mend it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend.

    `problem` names the file and the value; `hint` the next step. The command line prints both in one line
    and exits with 2; nothing else of the library prints or exits.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class ConfigError(UserError):
    """A recipe, an option or a dataset.yaml that says something impossible."""


class DataError(UserError):
    """Images, masks or their layout."""


class RunError(UserError):
    """A run folder or a model folder that is not what it should be."""
