"""Collect the evidence of a cohort for the checks; unlike reading a cohort, this does not stop at the first fault."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.cohort import GROUP, Cohort
from lymphtune.cohort.folders import SUFFIXES, FolderScan, PatientFolder, composed, list_folder, scan_folders
from lymphtune.cohort.layout import FILE, Layout
from lymphtune.cohort.packed import survey_packed
from lymphtune.cohort.study import folder_layout, is_simulated
from lymphtune.console import counted
from lymphtune.doctor.evidence import Bag, Entry, Evidence
from lymphtune.doctor.inspection import inspect_folder, inspect_pixels, inspect_sources
from lymphtune.doctor.table import read_table
from lymphtune.errors import InputError
from lymphtune.findings import Finding, finding_from_error


def gather_folder(folder: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Collect the evidence of a folder; pictures=False lists the pictures without decoding them.

    Raises InputError if the folder does not exist.
    """
    evidence = Evidence(folder.resolve().name, reference_date, folder, is_simulated(folder))
    try:
        evidence.layout = folder_layout(folder)
    except InputError as error:
        evidence.reading_findings.append(finding_from_error("layout", error, folder))
        evidence.complete = False
        return evidence
    read_table(evidence)
    evidence.attributes, evidence.ages = _numbers(evidence.layout), evidence.layout.ages
    evidence.bags = _list_folders(evidence, folder)
    if pictures:
        inspect_folder(folder, evidence.bags)
        evidence.pictures_inspected = True
    return evidence


def _numbers(layout: Layout) -> tuple[str, ...]:
    """Names of the numeric values."""
    given = (layout.columns.birth_date or layout.columns.age_years, layout.columns.lymphocytes)
    standard = [attribute.name for attribute, column in zip(STANDARD, given, strict=True) if column]
    return (*standard, *(name for name, extra in layout.attributes.items() if extra.kind == "numeric"))


# ---- the folders


def _list_folders(evidence: Evidence, folder: Path) -> list[Bag]:
    """The bags of a folder; files beside them become findings."""
    scans = [scan_folders(folder, template) for template in evidence.layout.pictures.templates]
    bags: dict[str, Bag] = {}
    for scan in scans:
        for one in scan.folders:
            at = one.path.relative_to(folder).as_posix()
            bags.setdefault(at, _list_bag(one, folder, at))
        for place, why in scan.refused.items():
            parent, _, patient = place.rpartition("/")
            bags.setdefault(place, Bag(composed(parent), composed(patient), refused={"": why}))
    evidence.reading_findings += _beside_bags(scans)
    return list(bags.values())


def _list_bag(one: PatientFolder, folder: Path, at: str) -> Bag:
    found = list_folder(one.path, folder, one.recursive)
    return Bag(
        one.parent,
        one.patient,
        found.names,
        found.hidden,
        found.others,
        found.folders,
        found.refused,
        at=at,
        n_below=found.n_below,
    )


def _beside_bags(scans: Sequence[FolderScan]) -> Iterator[Finding]:
    """Yield findings on files and folders beside the patients' folders, which are not read."""
    stray = tuple(dict.fromkeys(place for scan in scans for place in scan.stray))
    hidden = tuple(dict.fromkeys(place for scan in scans for place in scan.hidden))
    unmatched = tuple(dict.fromkeys(place for scan in scans for place in scan.unmatched))
    pictures = tuple(place for place in stray if place.lower().endswith(SUFFIXES))
    if pictures:
        text = f"{counted(len(pictures), 'picture')} beside the patients' folders, not read"
        yield Finding("warning", "unread pictures", text, "Put each into the folder of its patient.", pictures)
    if rest := tuple(place for place in stray if place not in {*pictures}):
        text = f"{counted(len(rest), 'file')} beside the patients' folders, which nothing reads"
        yield Finding("note", "other files", text, "", rest)
    if hidden:
        text = f"{counted(len(hidden), 'hidden file')} beside the patients' folders, which nothing reads"
        yield Finding("note", "hidden files", text, "", hidden)
    if unmatched:
        text = f"{counted(len(unmatched), 'folder')} that no path of `pictures` in {FILE} fits, not read"
        yield Finding("warning", "unread pictures", text, "Move them, or correct the path.", unmatched)


# ---- packed and simulated cohorts


def gather_packed(path: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Collect the evidence of a packed file."""
    try:
        surveyed = survey_packed(path, reference_date)
    except InputError as error:
        return Evidence(
            path.name, reference_date, reading_findings=[finding_from_error("packed file", error)], complete=False
        )
    evidence = evidence_of_patients(surveyed, reference_date)
    bags = {bag.patient: bag for bag in evidence.bags}
    if pictures:
        failed = inspect_sources(surveyed.sources(range(len(surveyed))), bags)
        if failed:
            evidence.reading_findings.append(_combined("packed file", failed))
            evidence.complete = False
        evidence.pictures_inspected = True
    return evidence


def _combined(check: str, failed: Sequence[InputError]) -> Finding:
    """One finding for all errors of one cause."""
    found = [finding_from_error(check, error) for error in failed]
    if len(found) == 1:
        return found[0]
    text = f"{counted(len(found), 'part')} of the file that cannot be read: {found[0].text}"
    return Finding("error", check, text, found[0].cure, tuple(one.text for one in found))


def gather_cohort(cohort: Cohort, pictures: bool = True) -> Evidence:
    """Collect the evidence of a loaded cohort."""
    evidence = evidence_of_patients(cohort, cohort.reference_date)
    if pictures:
        for bag, inspected in zip(evidence.bags, inspect_pixels(cohort), strict=True):
            bag.inspected = inspected
        evidence.pictures_inspected = True
    return evidence


def evidence_of_patients(cohort: Cohort | CohortSurvey, reference_date: date) -> Evidence:
    """The evidence of patients alone; their bags have no inspected pictures."""
    own = [name for name in cohort.patients.columns if name not in ("patient", "n_cells", GROUP)]
    rows = cohort.patients.to_dict("records")
    grouped = GROUP in cohort.patients.columns
    entries_ = [
        Entry(row["patient"], values={name: row[name] for name in own}, keys={GROUP: row[GROUP]} if grouped else {})
        for row in rows
    ]
    numbers = [attribute.name for attribute in cohort.attributes if attribute.levels is None]
    return Evidence(
        cohort.name,
        reference_date,
        simulated=cohort.simulated,
        entries=entries_,
        bags=[Bag("", row["patient"]) for row in rows],
        attributes=numbers,
        ages=cohort.ages,
    )
