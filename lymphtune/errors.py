"""Errors that the user can correct: the command line prints them in one line and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches

ELLIPSIS = " ..."
# exit code of a check that found warnings and no errors
WARNINGS = 3


class InputError(Exception):
    """Invalid input; the message says where, what was found and what to do."""

    # exit code of the command line
    code = 2


def listed(word: object, words: Iterable[object]) -> str:
    """The known words, and a suggestion for a misspelt one: `a, b; did you mean 'a'?`"""
    there = [str(one) for one in words]
    return ", ".join(there) + suggestion(word, there)


def suggestion(word: object, words: Iterable[object]) -> str:
    """`; did you mean 'mixed'?` if the word is close to a known one, else ""."""
    plain = {str(one).casefold(): str(one) for one in words}
    near = get_close_matches(str(word).casefold(), plain, n=1, cutoff=0.7)
    return f"; did you mean '{plain[near[0]]}'?" if near and plain[near[0]] != str(word) else ""


def one_line(text: str) -> str:
    """The text in one line with unprintable characters escaped: file names and YAML words are untrusted input."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in " ".join(text.split("\n"))
    )


def shortened(text: str, most: int = 300) -> str:
    """The text in one line of at most `most` characters, cut between words and ended by an ellipsis."""
    line = " ".join(one_line(text).split())
    if len(line) <= most:
        return line
    start = line[: most - len(ELLIPSIS) + 1]
    # a single word that is too long is cut inside
    kept = start.rpartition(" ")[0] or start[:-1]
    return kept.rstrip() + ELLIPSIS


def reason(error: BaseException) -> str:
    """The first line of the error's message, or its type if the message is empty."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0], 200)
