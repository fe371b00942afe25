"""Finding: one result of a check, with its severity, its places and its remedy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lymphtune.errors import InputError, one_line

Severity = Literal["error", "warning", "note", "ok"]
# the severities that reports of a cohort list, the worst first
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# places that Finding.values lists
MAX_PLACES = 100
# places that Finding.where lists
MAX_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    severity: "error" if a search refuses the input or its results would be wrong; "warning" for a probable mistake;
    "note" for information; "ok" for a check that passed.
    text: what was found; cure: what to do, "" if nothing.
    places: every row, patient, picture or node concerned; empty for the whole cohort.
    """

    severity: Severity
    check: str
    text: str
    cure: str
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Escape unprintable characters: file names and table cells are untrusted input."""
        object.__setattr__(self, "text", one_line(self.text))
        object.__setattr__(self, "cure", one_line(self.cure))
        object.__setattr__(self, "places", tuple(map(one_line, self.places)))

    @property
    def where(self) -> str:
        """The first few places as text, "" for the whole cohort."""
        return first_few(self.places)

    @property
    def values(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON; `count` counts all places, `places` holds the first MAX_PLACES."""
        return vars(self) | {"count": len(self.places), "places": self.places[:MAX_PLACES]}


def first_few(things: Sequence[str]) -> str:
    """The first MAX_SHOWN texts, comma-separated, and the number of the others."""
    shown, more = ", ".join(things[:MAX_SHOWN]), len(things) - MAX_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The most severe of the findings' severities, None if there are no findings."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


def finding_from_error(check: str, error: InputError, folder: Path | None = None) -> Finding:
    """Turn an InputError into a finding of severity "error"; paths become relative to `folder`.

    The part of the message after its last semicolon becomes the cure.
    """
    text, _, cure = str(error).rpartition("; ")
    if not text:
        # the message has no remedy
        text, cure = cure, ""
    if folder is not None:
        text = text.replace(f"{folder}/", "").removeprefix(f"{folder}: ")
    return Finding("error", check, text, sentence(cure) if cure else "")


def sentence(text: str) -> str:
    """Add a full stop, and a capital unless the text begins with a path."""
    first = text.split(maxsplit=1)[0] if text else ""
    start = text[:1] if {"/", "\\", ".", "_"} & set(first.rstrip(".,:;")) else text[:1].upper()
    return f"{start}{text[1:]}{'' if text.endswith('.') else '.'}"
