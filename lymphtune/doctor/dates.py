"""Checks of dates: wrong date format, ambiguous dates, invalid dates."""

import re
from collections.abc import Iterator
from datetime import date

from lymphtune.cohort.clinical import DAYS_PER_YEAR, MAX_AGE_YEARS
from lymphtune.cohort.dates import DAY_FIRST, MONTH_FIRST, READINGS, WRITTEN, read_date
from lymphtune.cohort.layout import FILE, OPTIONAL
from lymphtune.cohort.table import quoted
from lymphtune.console import counted
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.findings import Finding, first_few, sentence

OTHER_FORMS = (
    (re.compile(r"[0-9]{1,2}([-/.])[0-9]{1,2}\1[0-9]{2}"), "two-digit years, whose century is unknown"),
    (re.compile(r"[0-9]{1,4}([-/.])[0-9]{1,2}\1[0-9]{1,4}[T ].+"), "a time behind the day"),
    (re.compile(r"[0-9]{4,5}(\.0+)?"), "a spreadsheet's number of days, or a year alone"),
    (re.compile(r".*[^\W\d_]{3}.*"), "a month in letters"),
)


def birth_dates(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings on the columns of dates of birth and examination."""
    column = evidence.layout.columns.birth_date
    if column is None or column not in evidence.columns:
        return
    examined = evidence.layout.columns.examined_on
    for name in filter(None, [column, examined]):
        yield from _missing_dates(evidence, name)
    missing = {*evidence.layout.missing, ""}
    given = [entry for entry in evidence.entries if entry.texts.get(column, "") not in missing]
    wrong = [entry for entry in given if not accepts(entry, evidence.layout.dates, evidence)]
    if wrong:
        yield from _misread(evidence, column, given, wrong)
    else:
        yield from _ambiguous(evidence, column, given)
    if examined is not None:
        yield from _invalid_examination_dates(evidence, examined)


def _missing_dates(evidence: Evidence, column: str) -> Iterator[Finding]:
    absent = [entry for entry, fault in evidence.faults(column) if fault.kind == "missing"]
    if absent:
        text = f"{counted(len(absent), 'row')} without a {column}"
        cure = f"Fill them in, or name in {FILE}, under `missing`, what stands for no value."
        yield Finding("error", "missing", text, cure, tuple(entry.place for entry in absent))


def _invalid_examination_dates(evidence: Evidence, column: str) -> Iterator[Finding]:
    """Yield invalid dates of examination."""
    wrong = [entry for entry, fault in evidence.faults(column) if fault.kind == "not a date"]
    if wrong:
        text = f"{counted(len(wrong), 'date')} in {column} {'is' if len(wrong) == 1 else 'are'} none that fits"
        cure = f"Write {WRITTEN[evidence.layout.dates]}, or say in {FILE}, under `dates`, how dates are written."
        yield Finding("error", "date", text, cure, tuple(_place(entry, column) for entry in wrong))


def accepts(entry: Entry, reading: str, evidence: Evidence) -> bool:
    """Whether the date of birth, in this date format, is a date that gives a plausible age."""
    columns = evidence.layout.columns
    born, day = read_date(entry.texts[str(columns.birth_date)], reading), evidence.reference_date
    if columns.examined_on is not None:
        examined = read_date(entry.texts.get(columns.examined_on, ""), reading)
        if examined is None:
            # _invalid_examination_dates reports it
            return born is not None
        day = examined
    return born is not None and 0 <= age_years(born, day) <= MAX_AGE_YEARS


def age_years(born: date, day: date) -> float:
    return (day - born).days / DAYS_PER_YEAR


def consistent(evidence: Evidence, entries: list[Entry]) -> list[str]:
    """The date formats in which every entry's dates of birth and examination (if there are any) are valid.

    The study's own mixed format is not considered: only the study uses it.
    """
    examined, missing = evidence.layout.columns.examined_on, {"", *evidence.layout.missing}
    days = [entry.texts.get(examined, "") for entry in entries] if examined else []
    return [
        reading
        for reading in READINGS
        if reading != "study"
        and all(accepts(entry, reading, evidence) for entry in entries)
        and all(read_date(day, reading) for day in days if day not in missing)
    ]


def _misread(evidence: Evidence, column: str, given: list[Entry], wrong: list[Entry]) -> Iterator[Finding]:
    """Yield why dates do not fit the format in use: another format fits, formats are mixed, or dates are invalid."""
    used, fitting = WRITTEN[evidence.layout.dates], consistent(evidence, given)
    of = f"{len(wrong)} of {len(given)} dates in {column}"
    if fitting:
        named = " or ".join(f"`dates: {reading}`" for reading in fitting)
        fitting_text = " or ".join(WRITTEN[reading] for reading in fitting)
        unsure = "" if len(fitting) == 1 else "; nothing in the column tells which: ask who wrote it"
        yield Finding(
            "error",
            "date reading",
            f"{of} are no {used}; all are {fitting_text}",
            f"Write {named} in {FILE}{unsure}.",
            tuple(_place(entry, column) for entry in wrong),
        )
        return
    swapped = [entry for entry in wrong if _fits_other_order(entry.texts[column], evidence.layout.dates)]
    if swapped:
        example = swapped[0].texts[column]
        text = (
            f"{of} are no {used}, as {counted(len(given) - len(wrong), 'other')} are: {example} names its day elsewhere"
        )
        cure = f"Bring them to one form, best YYYY-MM-DD with `dates: iso` in {FILE}; those in between cannot be told."
        yield Finding("error", "mixed dates", text, cure, tuple(_place(entry, column) for entry in swapped))
    odd = [entry for entry in wrong if entry not in swapped]
    if not odd:
        return
    forms = [about for shape, about in OTHER_FORMS if any(shape.fullmatch(entry.texts[column]) for entry in odd)]
    late = any(read_date(entry.texts[column], evidence.layout.dates) is not None for entry in odd)
    if late:
        forms.append(f"no age from 0 to {MAX_AGE_YEARS} years {evidence.aged_at}")
    cure = f"Write {used}"
    if late:
        cure += (
            f", or give the day of examination in a column {OPTIONAL['examined_on']} (`examined_on` in {FILE}), or "
            "count ages to another day with `--reference-date`"
            if evidence.layout.ages == "reference_date"
            else ", and correct what was born after its examination"
        )
    cure += "."
    text = f"{len(odd)} of {len(given)} dates in {column} are none that fits" + (
        f": {', '.join(forms)}" if forms else ""
    )
    yield Finding("error", "date", text, cure, tuple(_place(entry, column) for entry in odd))


def _place(entry: Entry, column: str) -> str:
    return f"{entry.place} {quoted(entry.texts[column])}"


def _fits_other_order(text: str, reading: str) -> bool:
    """Whether the text is no date in this format, but is one with day and month the other way round."""
    return read_date(text, reading) is None and any(_day(text, form) for form in (DAY_FIRST, MONTH_FIRST))


def _day(text: str, form: re.Pattern[str]) -> date | None:
    match = form.fullmatch(text)
    try:
        return date(int(match["year"]), int(match["month"]), int(match["day"])) if match else None
    except ValueError:
        return None


def _ambiguous(evidence: Evidence, column: str, given: list[Entry]) -> Iterator[Finding]:
    """Yield the dates that fit day-first and month-first, by separator; a note if other dates settle the order."""
    forms: dict[str, list[Entry]] = {}
    for entry in given:
        if found := re.search(r"[-/.]", entry.texts[column]):
            forms.setdefault(found.group(), []).append(entry)
    for sign, entries in forms.items():
        ambiguous = [entry for entry in entries if _is_ambiguous(entry.texts[column])]
        if not ambiguous:
            continue
        tell = len(entries) - sum(_fits_both_orders(entry.texts[column]) for entry in entries)
        example = ambiguous[0].texts[column]
        read = read_date(example, evidence.layout.dates)
        text = (
            f"{len(ambiguous)} of {len(entries)} dates with {sign!r} in {column} could be read day first and "
            f"month first; {example} is taken for {read}"
        )
        if tell:
            text += f", as {counted(tell, 'other')} of the form can only be read so"
            yield Finding("note", "ambiguous dates", text, "", tuple(entry.place for entry in ambiguous))
        else:
            cure = f"Nothing in the column tells: ask who wrote it, and say it in {FILE} (`dates`)."
            yield Finding("warning", "ambiguous dates", text, cure, tuple(entry.place for entry in ambiguous))


def _is_ambiguous(text: str) -> bool:
    first, second = _day(text, DAY_FIRST), _day(text, MONTH_FIRST)
    return first is not None and second is not None and first != second


def _fits_both_orders(text: str) -> bool:
    """Whether the text is a date both day first and month first (possibly the same day)."""
    return _day(text, DAY_FIRST) is not None and _day(text, MONTH_FIRST) is not None


def group_dates(evidence: Evidence) -> Iterator[Finding]:
    """Yield invalid dates in columns to group by."""
    born = evidence.layout.columns.birth_date
    for group in evidence.layout.groups:
        found = [(entry, fault) for entry, fault in evidence.faults(group.column) if fault.kind == "not a date"]
        if found and group.column != born:
            given = first_few(list(dict.fromkeys(quoted(fault.text) for _, fault in found)))
            text = f"{counted(len(found), 'row')} with {group.column} {given}: no date to group by"
            cure = sentence(f"{found[0][1].expected}, or say in {FILE}, under `dates`, how they are written")
            yield Finding("error", "date", text, cure, tuple(entry.place for entry, _ in found))


CHECKS = (birth_dates, group_dates)
