"""Checks of a cohort before training: a summary of its contents and a list of findings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from lymphtune.cohort import REFERENCE_DATE, find_cohort
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.pseudonyms import are_pseudonyms
from lymphtune.doctor import dates, duplicates, groups, ids, labels, pictures, roles, separation, values
from lymphtune.doctor.evidence import Evidence
from lymphtune.doctor.gathering import evidence_of_patients, gather_cohort, gather_folder, gather_packed
from lymphtune.doctor.summary import Summary, summary
from lymphtune.findings import SEVERITIES, Finding

Check = Callable[[Evidence], Iterator[Finding]]
TABLE_CHECKS: tuple[Check, ...] = (
    *ids.CHECKS,
    *roles.CHECKS,
    *labels.CHECKS,
    *dates.CHECKS,
    *values.CHECKS,
    *separation.CHECKS,
    *groups.CHECKS,
)
PICTURE_CHECKS: tuple[Check, ...] = (*pictures.CHECKS, *duplicates.CHECKS)


@dataclass(frozen=True)
class Examination:
    """Evidence, summary and findings of a cohort, the most severe findings first."""

    evidence: Evidence
    summary: Summary
    findings: Sequence[Finding]

    def with_findings(self, more: Sequence[Finding]) -> "Examination":
        """A copy with more findings."""
        return replace(self, findings=_sorted([*self.findings, *more]))

    @property
    def values(self) -> dict[str, Any]:
        """The content for JSON."""
        counts = {f"n_{one}s": sum(finding.severity == one for finding in self.findings) for one in SEVERITIES}
        return {"cohort": self.summary, **counts, "findings": [finding.values for finding in self.findings]}


def examine(data: str | Path, reference_date: date = REFERENCE_DATE) -> Examination:
    """Run all checks on the cohort that `data` names; every picture is decoded.

    Raises InputError if `data` names no cohort.
    """
    path = find_cohort(data)
    if path is None:
        from lymphtune.cohort.simulation.patients import simulated_cohort

        return examine_evidence(gather_cohort(simulated_cohort(reference_date)))
    return examine_evidence((gather_folder if path.is_dir() else gather_packed)(path, reference_date))


def examine_evidence(evidence: Evidence) -> Examination:
    """Run all checks on the evidence."""
    found = [
        *evidence.reading_findings,
        *(finding for check in (*TABLE_CHECKS, *PICTURE_CHECKS) for finding in check(evidence)),
    ]
    return Examination(evidence, summary(evidence), _sorted(found))


def quick_findings(data: str | Path, cohort: Cohort) -> list[Finding]:
    """Errors and warnings of a loaded cohort, from its table and its picture digests alone.

    Checks on the number of patients and groups are skipped: they depend on the folds, whose maker checks them.
    """
    path = find_cohort(data)
    # with pseudonyms, the folder is not read again because its findings would name ids
    if path is not None and path.is_dir() and not are_pseudonyms(cohort.ids):
        evidence = gather_folder(path, cohort.reference_date, pictures=False)
    else:
        evidence = evidence_of_patients(cohort, cohort.reference_date)
    checks = [check for check in TABLE_CHECKS if check not in (labels.classes, groups.too_few)]
    found = [*evidence.reading_findings, *(finding for check in checks for finding in check(evidence))]
    found += duplicates.within_bags(cohort.ids, cohort.digests_of_bags)
    return _sorted(finding for finding in found if finding.severity != "note")


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
