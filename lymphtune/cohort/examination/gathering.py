"""Everything of a cohort gathered for its examination, faults and all: nothing stops at the first of them."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import Surveyed
from lymphtune.cohort.cohort import GROUP, Cohort
from lymphtune.cohort.examination.evidence import Bag, Entry, Evidence
from lymphtune.cohort.examination.finding import Finding, counted, of_error
from lymphtune.cohort.examination.looking import look_through, look_through_pixels, look_through_sources
from lymphtune.cohort.examination.table import read_table
from lymphtune.cohort.layout import Layout
from lymphtune.cohort.packed import survey_packed
from lymphtune.cohort.pictures import SUFFIXES, check_link, entries
from lymphtune.cohort.study import check_links, folder_layout, is_simulated
from lymphtune.errors import InputError


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
    evidence.bags = [bag for home in evidence.layout.homes for bag in _list_home(evidence, home)]
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


def _list_home(evidence: Evidence, home: str) -> Iterator[Bag]:
    """Yield the bags of one of the two sets; loose files and what must not be entered are findings."""
    folder = evidence.folder
    assert folder is not None
    place, loose, hidden = folder / home, [], []
    if not place.is_dir():
        return
    try:
        check_links(folder, home)
        found = sorted(entries(place), key=lambda entry: entry.name)
    except InputError as error:
        evidence.form.append(of_error("link" if "link" in str(error) else "folder", error, folder))
        return
    for entry in found:
        if entry.name.startswith("."):
            hidden.append(f"{home}/{entry.name}")
        elif entry.is_symlink() and (refusal := _refusal(place / entry.name, folder)):
            evidence.form.append(of_error("link", refusal, folder))
        elif entry.is_dir():
            yield _list_bag(folder, home, entry.name)
        else:
            loose.append(f"{home}/{entry.name}")
    if home and loose:
        told = f"{counted(len(loose), 'file')} beside the patients' folders, which nothing reads"
        evidence.form.append(Finding("note", "other files", told, "", tuple(loose)))
    if home and hidden:
        told = f"{counted(len(hidden), 'hidden file')} beside the patients' folders, which nothing reads"
        evidence.form.append(Finding("note", "hidden files", told, "", tuple(hidden)))


def _list_bag(folder: Path, home: str, patient: str) -> Bag:
    names: list[str] = []
    hidden: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    refused: dict[str, str] = {}
    path = folder / home / patient
    try:
        found = sorted(entries(path), key=lambda entry: entry.name)
    except InputError as error:
        return Bag(home, patient, refused={"": str(error).removeprefix(f"{path}: ")})
    for entry in found:
        name, is_picture = entry.name, entry.name.lower().endswith(SUFFIXES)
        if name.startswith("."):
            hidden.append(name)
        elif is_picture and not name.isprintable():
            refused[name] = "a name that cannot be printed"
        elif entry.is_symlink() and (refusal := _refusal(path / name, folder)):
            refused[name] = str(refusal).removeprefix(f"{path / name}: ")
        elif entry.is_dir():
            folders.append(name)
        else:
            (names if is_picture and entry.is_file() else others).append(name)
    return Bag(home, patient, names, hidden, others, folders, refused)


def _refusal(path: Path, folder: Path) -> InputError | None:
    try:
        check_link(path, folder)
    except InputError as error:
        return error
    return None


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
        for failed in look_through_sources(surveyed.sources(range(len(surveyed))), bags):
            evidence.form.append(of_error("packed file", failed))
            evidence.complete = False
        evidence.pictures_seen = True
    return evidence


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
