"""The result of `lymphtune doctor` for a cohort, and for a corrected copy."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lymphtune.cohort import find_cohort
from lymphtune.console import counted
from lymphtune.doctor import Examination, examine
from lymphtune.doctor.correction import Change, correct
from lymphtune.doctor.listing import report, severity_counts
from lymphtune.errors import WARNINGS, InputError
from lymphtune.findings import Finding, Severity, worst
from lymphtune.result import Result

ExtraCheck = Callable[[str, date], Sequence[Finding]]
CODES: dict[Severity, int] = {"error": InputError.code, "warning": WARNINGS}


def check_cohort(data: str, reference_date: date, extra_check: ExtraCheck | None = None) -> Result:
    """Check a cohort; the result has a fault if there is an error or a warning.

    extra_check: run only if there is no error.
    """
    found = examine(data, reference_date)
    if extra_check is not None and worst(found.findings) != "error":
        found = found.with_findings(extra_check(data, reference_date))
    text = report(found.summary.lines, found.findings)
    fault = f"{data}: {severity_counts(found.findings)}; see what to do under each, then check again"
    return _result(found, text, found.values, fault)


def fix_cohort(data: str, out: Path, reference_date: date) -> Result:
    """Write a corrected copy of the folder `data`; the result holds every change and the remaining findings.

    Raises InputError if `data` is not a folder, or if `out` exists or lies inside it.
    """
    path = find_cohort(data)
    if path is None or not path.is_dir():
        raise InputError(f"--fix: {data} is not a folder; only a folder can be corrected")
    changes = correct(path, out, reference_date)
    left = examine(out, reference_date)
    lines = [f"{out}: {counted(len(changes), 'change')}, each in {out}/doctor-changes.csv"]
    lines += [f"  {kind} ({count})" for kind, count in _counts(changes).items()]
    text = "\n".join([*lines, "", "what is left:", report(left.summary.lines, left.findings)])
    fault = f"{out}: corrected; {severity_counts(left.findings)} remain; see what to do under each"
    return _result(left, text, {"out": out, "changes": changes, "left": left.values}, fault)


def _counts(changes: list[Change]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.kind] = counts.get(change.kind, 0) + 1
    return counts


def _result(found: Examination, text: str, values: Any, fault: str) -> Result:
    severity = worst(found.findings)
    return Result(text, values, fault, CODES[severity]) if severity in CODES else Result(text, values)
