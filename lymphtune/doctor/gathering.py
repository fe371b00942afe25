"""Everything of a cohort gathered for its examination, faults and all: nothing stops at the first of them."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import Surveyed
from lymphtune.cohort.cohort import GROUP, Cohort
from lymphtune.cohort.folders import SUFFIXES, PatientFolder, Walk, composed, listing, walk
from lymphtune.cohort.layout import FILE, Layout
from lymphtune.cohort.packed import survey_packed
from lymphtune.cohort.study import folder_layout, is_simulated
from lymphtune.console import counted
from lymphtune.doctor.evidence import Bag, Entry, Evidence
from lymphtune.doctor.inspection import look_through, look_through_pixels, look_through_sources
from lymphtune.doctor.table import read_table
from lymphtune.errors import InputError
from lymphtune.findings import Finding, of_error


def gather_folder(folder: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Return the evidence of a folder; without `pictures` they are listed and not looked at.

    Raises InputError where there is no such folder.
    """
    evidence = Evidence(folder.resolve().name, reference_date, folder, is_simulated(folder))
    try:
        evidence.layout = folder_layout(folder)
    except InputError as error:
        evidence.form.append(of_error("layout", error, folder))
        evidence.complete = False
        return evidence
    read_table(evidence)
    evidence.attributes, evidence.ages = _numbers(evidence.layout), evidence.layout.ages
    evidence.bags = _list_folders(evidence, folder)
    if pictures:
        look_through(folder, evidence.bags)
        evidence.pictures_seen = True
    return evidence


def _numbers(layout: Layout) -> tuple[str, ...]:
    """Return the names of the values that are numbers."""
    given = (layout.columns.birth_date or layout.columns.age_years, layout.columns.lymphocytes)
    standard = [attribute.name for attribute, column in zip(STANDARD, given, strict=True) if column]
    return (*standard, *(name for name, extra in layout.attributes.items() if extra.kind == "numeric"))


# ---- the folders


def _list_folders(evidence: Evidence, folder: Path) -> list[Bag]:
    """Return the bags of a folder; what lies beside them and what must not be entered are findings."""
    walks = [walk(folder, template) for template in evidence.layout.pictures.templates]
    bags: dict[str, Bag] = {}
    for walked in walks:
        for one in walked.folders:
            at = one.path.relative_to(folder).as_posix()
            bags.setdefault(at, _list_bag(one, folder, at))
        for place, why in walked.refused.items():
            home, _, patient = place.rpartition("/")
            bags.setdefault(place, Bag(composed(home), composed(patient), refused={"": why}))
    evidence.form += _beside(walks)
    return list(bags.values())


def _list_bag(one: PatientFolder, folder: Path, at: str) -> Bag:
    found = listing(one.path, folder, one.deep)
    return Bag(
        one.home, one.patient, found.names, found.hidden, found.others, found.folders, found.refused,
        at=at, n_below=found.n_below,
    )  # fmt: skip


def _beside(walks: Sequence[Walk]) -> Iterator[Finding]:
    """Yield what lies beside the patients' folders and is not read."""
    loose = tuple(dict.fromkeys(place for walked in walks for place in walked.loose))
    hidden = tuple(dict.fromkeys(place for walked in walks for place in walked.hidden))
    unmatched = tuple(dict.fromkeys(place for walked in walks for place in walked.unmatched))
    pictures = tuple(place for place in loose if place.lower().endswith(SUFFIXES))
    if pictures:
        told = f"{counted(len(pictures), 'picture')} beside the patients' folders, not read"
        yield Finding("warning", "unread pictures", told, "Put each into the folder of its patient.", pictures)
    if rest := tuple(place for place in loose if place not in {*pictures}):
        told = f"{counted(len(rest), 'file')} beside the patients' folders, which nothing reads"
        yield Finding("note", "other files", told, "", rest)
    if hidden:
        told = f"{counted(len(hidden), 'hidden file')} beside the patients' folders, which nothing reads"
        yield Finding("note", "hidden files", told, "", hidden)
    if unmatched:
        told = f"{counted(len(unmatched), 'folder')} that no path of `pictures` in {FILE} fits, not looked into"
        yield Finding("warning", "unread pictures", told, "Move them, or correct the path.", unmatched)


# ---- packed and simulated cohorts


def gather_packed(path: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Return the evidence of a packed file."""
    try:
        surveyed = survey_packed(path, reference_date)
    except InputError as error:
        return Evidence(path.name, reference_date, form=[of_error("packed file", error)], complete=False)
    evidence = of_patients(surveyed, reference_date)
    bags = {bag.patient: bag for bag in evidence.bags}
    if pictures:
        failed = look_through_sources(surveyed.sources(range(len(surveyed))), bags)
        if failed:
            evidence.form.append(_of_several("packed file", failed))
            evidence.complete = False
        evidence.pictures_seen = True
    return evidence


def _of_several(check: str, failed: Sequence[InputError]) -> Finding:
    """Return one finding of all refusals that have one cause."""
    found = [of_error(check, error) for error in failed]
    if len(found) == 1:
        return found[0]
    text = f"{counted(len(found), 'part')} of the file that cannot be read: {found[0].text}"
    return Finding("error", check, text, found[0].cure, tuple(one.text for one in found))


def gather_cohort(cohort: Cohort, pictures: bool = True) -> Evidence:
    """Return the evidence of a cohort that has been read."""
    evidence = of_patients(cohort, cohort.reference_date)
    if pictures:
        for bag, looks in zip(evidence.bags, look_through_pixels(cohort), strict=True):
            bag.looks = looks
        evidence.pictures_seen = True
    return evidence


def of_patients(cohort: Cohort | Surveyed, reference_date: date) -> Evidence:
    """Return the evidence of patients that have been read, each with a bag that nobody has looked into."""
    own = [name for name in cohort.patients.columns if name not in ("patient", "n_cells", GROUP)]
    rows = cohort.patients.to_dict("records")
    grouped = GROUP in cohort.patients.columns
    entries_ = [
        Entry(
            row["patient"], values={name: row[name] for name in own}, keys={GROUP: row[GROUP]} if grouped else {}
        )
        for row in rows
    ]  # fmt: skip
    numbers = [attribute.name for attribute in cohort.attributes if attribute.levels is None]
    return Evidence(
        cohort.name, reference_date, simulated=cohort.simulated, entries=entries_,
        bags=[Bag("", row["patient"]) for row in rows], attributes=numbers, ages=cohort.ages,
    )  # fmt: skip
