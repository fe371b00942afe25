"""Text reports of findings: the full list, and one line per finding at the start of a search."""

import textwrap
from collections.abc import Sequence

from lymphtune import console
from lymphtune.console import counted
from lymphtune.findings import SEVERITIES, Finding

# findings printed at the start of a search
MAX_LINES = 8


def report(summary: Sequence[str], findings: Sequence[Finding]) -> str:
    """The summary, then the findings by severity, each with its places and its remedy."""
    lines = [line for text in summary for line in console.hanging(text)]
    for severity in SEVERITIES:
        of = [finding for finding in findings if finding.severity == severity]
        if of:
            lines += ["", console.painted(counted(len(of), severity), "heading")]
            lines += [line for finding in of for line in _lines(finding)]
    if not findings:
        lines += ["", "nothing found"]
    return "\n".join(lines)


def _lines(finding: Finding) -> list[str]:
    lines = console.hanging(f"{finding.check}: {finding.text}")
    if finding.places:
        lines += _indented(finding.where)
    return lines + (_indented(f"-> {finding.cure}") if finding.cure else [])


def _indented(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        console.width(),
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def severity_counts(findings: Sequence[Finding]) -> str:
    """The number of findings of each severity, as text."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    return ", ".join(counted(count, severity) for severity, count in counts.items() if count) or "nothing found"


def short_listing(name: str, findings: Sequence[Finding], data: object) -> list[str]:
    """One line per finding, at most MAX_LINES, and the command that lists all; [] without findings."""
    lines = []
    for finding in findings[:MAX_LINES]:
        where = f" ({finding.where})" if finding.places else ""
        lines.append(f"{name}: {finding.severity}: {finding.check}: {finding.text}{where}")
    more = len(findings) - len(lines)
    if lines:
        lines.append(f"`lymphtune doctor --data {data}` says " + (f"{more} more, and " if more else "") + "what to do")
    return lines
