"""The errors that a user can mend: the command line prints them in one line and exits with 2."""

from collections.abc import Iterable
from difflib import get_close_matches

ELLIPSIS = " ..."
WARNINGS = 3  # exit code of a check that found warnings and no errors


class InputError(Exception):
    """Something handed in does not fit; the text says where, what was found and what would do."""

    code = 2  # with which the command line exits


def listed(word: object, words: Iterable[object]) -> str:
    """Return the words there are, and which of them a misspelt one is likely to mean: `a, b; did you mean 'a'?`"""
    there = [str(one) for one in words]
    return ", ".join(there) + suggestion(word, there)


def suggestion(word: object, words: Iterable[object]) -> str:
    """Return `; did you mean 'mixed'?` where a misspelt word is near one of those there are, else ""."""
    plain = {str(one).casefold(): str(one) for one in words}
    near = get_close_matches(str(word).casefold(), plain, n=1, cutoff=0.7)
    return f"; did you mean '{plain[near[0]]}'?" if near and plain[near[0]] != str(word) else ""


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
