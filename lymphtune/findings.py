"""What an examination finds: how bad it is, where, how often, and what would mend it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lymphtune.errors import InputError, one_line

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MAX_PLACES = 100  # of one finding in its values
MAX_SHOWN = 3  # of them in its text


@dataclass(frozen=True)
class Finding:
    """One thing that was found, `places`: every row, patient or picture that it was found at.

    error: a search refuses it, or what it says would be wrong; warning: probably not what was meant; note: worth
    knowing.
    """

    severity: Severity
    check: str
    text: str
    cure: str
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Escape what cannot be printed: names of files and texts of a table are anybody's."""
        object.__setattr__(self, "text", one_line(self.text))
        object.__setattr__(self, "cure", one_line(self.cure))
        object.__setattr__(self, "places", tuple(map(one_line, self.places)))

    @property
    def where(self) -> str:
        """Return the first few places in words, "" where the whole cohort is meant."""
        return first_few(self.places)

    @property
    def values(self) -> dict[str, Any]:
        """Return it for programs: `count` of all places, `places` the first MOST_PLACES."""
        return vars(self) | {"count": len(self.places), "places": self.places[:MAX_PLACES]}


def first_few(things: Sequence[str]) -> str:
    """Return the first few in words, and how many more there are."""
    shown, more = ", ".join(things[:MAX_SHOWN]), len(things) - MAX_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity, None where there is nothing."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


def finding_from_error(check: str, error: InputError, folder: Path | None = None) -> Finding:
    """Return the finding that a refusal is; paths are told from the folder."""
    text, _, cure = str(error).rpartition("; ")
    if not text:  # which says nothing of what would do
        text, cure = cure, ""
    if folder is not None:
        text = text.replace(f"{folder}/", "").removeprefix(f"{folder}: ")
    return Finding("error", check, text, sentence(cure) if cure else "")


def sentence(text: str) -> str:
    """Return the text with a capital at its start, unless it begins with a path, and a full stop at its end."""
    first = text.split(maxsplit=1)[0] if text else ""
    start = text[:1] if {"/", "\\", ".", "_"} & set(first.rstrip(".,:;")) else text[:1].upper()
    return f"{start}{text[1:]}{'' if text.endswith('.') else '.'}"
