"""The errors that a user can mend: the command line prints them in one line and exits with 2."""

from lymphtune.result import Told

ELLIPSIS = " ..."
DOUBTFUL = 3  # exit code where nothing is wrong for certain


class InputError(Exception):
    """Something handed in does not fit; the text says where, what was found and what would do."""

    code = 2  # with which the command line exits


def one_line(text: str) -> str:
    """Return the text in one line, what cannot be printed escaped: names of files and words of YAML are anybody's."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in " ".join(text.split("\n"))
    )


def shortened(text: str, most: int = 300) -> str:
    """Return the text in one line of at most `most` characters, cut between two words and with an ellipsis."""
    line = " ".join(one_line(text).split())
    if len(line) <= most:
        return line
    start = line[: most - len(ELLIPSIS) + 1]
    kept = start.rpartition(" ")[0] or start[:-1]  # a single word longer than that is cut
    return kept.rstrip() + ELLIPSIS


def reason(error: BaseException) -> str:
    """Return the first line of what went wrong, its type where it says nothing."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0], 200)


class Unfit(InputError):
    """Something was looked over and has faults; `told`: all that was found, `code`: DOUBTFUL where it may do."""

    def __init__(self, summary: str, told: Told, code: int = InputError.code) -> None:
        super().__init__(summary)
        self.told, self.code = told, code
