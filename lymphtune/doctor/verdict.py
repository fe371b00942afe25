"""The doctor's word on a cohort, its corrected copy included: told where all is well, raised with all that is not."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from lymphtune.cohort import find_cohort
from lymphtune.console import counted
from lymphtune.doctor import Examination, examine
from lymphtune.doctor.correction import Change, correct
from lymphtune.doctor.listing import count_of, report
from lymphtune.errors import DOUBTFUL, InputError, Unfit
from lymphtune.findings import Finding, Severity, worst
from lymphtune.result import Told

Further = Callable[[str, date], Sequence[Finding]]
CODES: dict[Severity, int] = {"error": InputError.code, "warning": DOUBTFUL}


def check_cohort(data: str, reference_date: date, further: Further | None = None) -> Told:
    """Return what is there and what was found of a cohort.

    further: what looks at it once more where there is no error. Raises Unfit, which carries them, where there is an
    error or, with the code DOUBTFUL, a warning.
    """
    found = examine(data, reference_date)
    if further is not None and worst(found.findings) != "error":
        found = found.with_findings(further(data, reference_date))
    told = Told(report(found.summary.lines, found.findings), found.values)
    return _judged(found, told, f"{data}: {count_of(found.findings)}; see what to do under each, then check again")


def fix_cohort(data: str, out: Path, reference_date: date) -> Told:
    """Write a corrected copy of the folder `data`, and return every change and what is left to find in it.

    Raises Unfit, which carries them, where an error or a warning is left; InputError where `data` is no folder, or
    `out` is there already or inside it.
    """
    path = find_cohort(data)
    if path is None or not path.is_dir():
        raise InputError(f"--fix: {data} is no folder; only a folder can be corrected")
    changes = correct(path, out, reference_date)
    left = examine(out, reference_date)
    lines = [f"{out}: {counted(len(changes), 'change')}, each in {out}/doctor-changes.csv"]
    lines += [f"  {kind} ({count})" for kind, count in _counts(changes).items()]
    text = "\n".join([*lines, "", "what is left:", report(left.summary.lines, left.findings)])
    told = Told(text, {"out": out, "changes": changes, "left": left.values})
    return _judged(left, told, f"{out}: corrected, and left are {count_of(left.findings)}; see what to do under each")


def _counts(changes: list[Change]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    return counts


def _judged(found: Examination, told: Told, summary: str) -> Told:
    severity = worst(found.findings)
    if severity in CODES:
        raise Unfit(summary, told, CODES[severity])
    return told
