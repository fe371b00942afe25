"""The errors that a user can mend: the command line prints them in one line and exits with 2."""

from lymphtune.result import Told


class InputError(Exception):
    """Something handed in does not fit; the text says where, what was found and what would do."""


class Unfit(InputError):
    """Something was looked over and has faults; `told`: all that was found."""

    def __init__(self, summary: str, told: Told) -> None:
        super().__init__(summary)
        self.told = told
