"""Checks of values: invalid numbers, wrong units, implausible, missing and constant values.

Shapes: P patients.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from lymphtune.cohort.clinical import NUMBER
from lymphtune.cohort.cohort import REACTIVE, TO_PREDICT, TUMORAL
from lymphtune.cohort.layout import FILE, UNITS
from lymphtune.cohort.table import quoted
from lymphtune.console import counted
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.doctor.ids import normalised_id
from lymphtune.findings import Finding, Severity, first_few, sentence

COUNT, AGE = "lymphocytes_g_per_l", "age_years"
# lymphocytes in 10^9/L
PLAUSIBLE = (0.5, 500.0)
# share of a column's values that must agree for a finding about the whole column
MIN_SHARE = 0.9
CHILD_YEARS, OLD_YEARS = 18, 105
# patients from which a nearly constant column is reported
MIN_PATIENTS = 20
NEARLY_CONSTANT = 0.95
# p-value below which missing values are reported to depend on the class
MAX_P = 0.01


def numbers(evidence: Evidence) -> Iterator[Finding]:
    """Yield, by column, values that are missing, not numbers, or out of range."""
    for column in _number_columns(evidence):
        faults = list(evidence.faults(column))
        for kind in dict.fromkeys(fault.kind for _, fault in faults):
            found = [(entry, fault) for entry, fault in faults if fault.kind == kind]
            places = tuple(f"{entry.place} {quoted(fault.text)}" for entry, fault in found)
            given = _n_given(evidence, column)
            if kind == "not a number" and column in other_decimals(evidence):
                other = "," if evidence.layout.decimal == "." else "."
                text = f"{len(found)} of {given} values of {column} have {other!r} before their decimals"
                yield Finding("error", "decimal", text, f"Write `decimal: {other!r}` in {FILE}.", places)
            elif kind == "out of range" and _in_months(evidence, column):
                text = f"{len(found)} of {given} values of {column} are over 120: these are months"
                yield Finding("error", "age unit", text, f"Write `age_unit: months` in {FILE}.", places)
            elif kind == "missing":
                cure = f"Fill them in, or name in {FILE}, under `missing`, what stands for no value."
                yield Finding("error", "missing", f"{counted(len(found), 'row')} without a {column}", cure, places)
            else:
                wrong = "not a number" if kind == "not a number" else kind
                cure = sentence(found[0][1].expected)
                text = f"{counted(len(found), 'value')} of {column} {'is' if len(found) == 1 else 'are'} {wrong}"
                yield Finding("error", "number", text, cure, places)


def _number_columns(evidence: Evidence) -> list[str]:
    """The numeric columns, whose faults this module reports."""
    columns, layout = evidence.layout.columns, evidence.layout
    named = [columns.age_years, columns.lymphocytes, *(extra.column for extra in layout.attributes.values())]
    return list(dict.fromkeys(name for name in named if name is not None))


def _n_given(evidence: Evidence, column: str) -> int:
    return sum(entry.texts.get(column, "") not in {"", *evidence.layout.missing} for entry in evidence.entries)


def other_decimals(evidence: Evidence) -> list[str]:
    """The columns of which at least half of the values are numbers only with the other decimal sign.

    A column in which three digits follow the sign everywhere is left out: the sign may separate thousands.
    """
    sign = "," if evidence.layout.decimal == "." else "."
    found = []
    for column in _number_columns(evidence):
        texts = [fault.text for _, fault in evidence.faults(column) if fault.kind == "not a number"]
        decimal = all(NUMBER.fullmatch(text.replace(sign, ".", 1)) for text in texts)
        thousands = all(len(text.partition(sign)[2]) == 3 for text in texts)
        if texts and decimal and not thousands and len(texts) >= 0.5 * _n_given(evidence, column):
            found.append(column)
    return found


def _in_months(evidence: Evidence, column: str) -> bool:
    if column != evidence.layout.columns.age_years or evidence.layout.age_unit == "months":
        return False
    texts = [fault.text for _, fault in evidence.faults(column)]
    return len(texts) >= MIN_SHARE * len(evidence.entries) and all(_between(text, 120, 120 * 12) for text in texts)


def _between(text: str, low: float, high: float) -> bool:
    try:
        return low < float(text.replace(",", ".")) <= high
    except ValueError:
        return False


def given(evidence: Evidence, name: str) -> tuple[list[Entry], np.ndarray]:
    """The patients with a finite value of that name, and the values [P]."""
    entries = [entry for entry in evidence.entries if math.isfinite(entry.values.get(name, math.nan))]
    return entries, np.array([entry.values[name] for entry in entries], dtype=np.float64)


def unit_factor(evidence: Evidence) -> float:
    """The factor that makes the counts plausible; 1 if they are plausible, or if no single factor does."""
    _, counts_P = given(evidence, COUNT)
    if len(counts_P) < 3 or _share_plausible(counts_P) > 1 - MIN_SHARE:
        return 1.0
    fits = [factor for factor in (1e-3, 1e3, 1e-6, 1e-9) if _share_plausible(counts_P * factor) >= MIN_SHARE]
    return fits[0] if len(fits) == 1 else 1.0


def _share_plausible(counts_P: np.ndarray) -> float:
    return float(((counts_P >= PLAUSIBLE[0]) & (counts_P <= PLAUSIBLE[1])).mean())


def counts(evidence: Evidence) -> Iterator[Finding]:
    """Yield counts in another unit, of the whole column or of a few patients."""
    entries, counts_P = given(evidence, COUNT)
    if not len(entries):
        return
    low, high = PLAUSIBLE
    median = float(np.median(counts_P))
    odd = [entry for entry, count in zip(entries, counts_P, strict=True) if not low <= count <= high]
    factor = unit_factor(evidence)
    if factor != 1:
        size = f"{1 / factor:,.0f} times too large" if factor < 1 else f"{factor:,.0f} times too small"
        text = f"lymphocyte counts with a median of {median:g} 10^9/L are {size}: they are in another unit"
        unit_factor_used = UNITS[evidence.layout.lymphocyte_unit]
        units = [
            f"`lymphocyte_unit: {unit}`" for unit, of in UNITS.items() if math.isclose(of, unit_factor_used * factor)
        ]
        known = f"Write {' or '.join(units)} in {FILE}" if units else f"Multiply the column by {factor:g}"
        cure = f"{known}." if evidence.folder else "Correct the table and pack the cohort again."
        yield Finding("error", "count unit", text, cure, tuple(entry.place for entry in odd))
    elif odd:
        places = tuple(f"{entry.place} {_number(entry.values[COUNT])}" for entry in odd)
        text = f"{counted(len(odd), 'count')} outside {low:g} to {high:g} 10^9/L, where the median is {median:.3g}"
        yield Finding("warning", "odd count", text, "See whether they are in another unit, or a point is lost.", places)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def ages(evidence: Evidence) -> Iterator[Finding]:
    """Yield ages that hardly are."""
    entries, ages_P = given(evidence, AGE)
    kinds: tuple[tuple[Severity, str, np.ndarray], ...] = (
        ("note", f"under {CHILD_YEARS}", ages_P < CHILD_YEARS),
        ("warning", f"over {OLD_YEARS}", ages_P > OLD_YEARS),
    )
    for severity, word, odd_P in kinds:
        odd = [f"{entries[row].place} {ages_P[row]:.0f}" for row in np.flatnonzero(odd_P)]
        if odd:
            text = f"{counted(len(odd), 'patient')} {word} years {evidence.aged_at}"
            cure = "See whether their dates stand for no date"
            cure += "." if evidence.ages == "examination" else ", or count ages to another day (`--reference-date`)."
            yield Finding(severity, "odd age", text, cure if severity == "warning" else "", tuple(odd))


def missing(evidence: Evidence) -> Iterator[Finding]:
    """Yield columns with missing values; a warning if missingness depends on the label."""
    for name in [*evidence.attributes, "sex", *_words(evidence)]:
        known = [entry for entry in evidence.entries if name in entry.values]
        absent = [entry for entry in known if _is_missing(entry.values[name])]
        if not absent or (name == "sex" and len(absent) == len(known)):
            continue
        text = f"{name} is missing of {len(absent)} of {counted(len(known), 'patient')}"
        by_label = [
            [
                sum(_is_missing(entry.values[name]) is gone for entry in known if entry.label == label)
                for gone in (True, False)
            ]
            for label in (REACTIVE, TUMORAL)
        ]
        if fisher(by_label) < MAX_P:
            (reactive, has), (tumoral, have) = by_label
            of_classes = f"{reactive} of {reactive + has} reactive, {tumoral} of {tumoral + have} tumoral"
            text += f", and that tells the label: {of_classes}"
            cure = "Find out why; a model may learn who was asked in place of the disease."
            yield Finding("warning", "missing", text, cure, tuple(entry.place for entry in absent))
        else:
            yield Finding("note", "missing", text, "", tuple(entry.place for entry in absent))


def _words(evidence: Evidence) -> list[str]:
    return [name for name, extra in evidence.layout.attributes.items() if extra.kind == "categorical"]


def _is_missing(value: object) -> bool:
    return value == "" or value is None or (isinstance(value, float) and math.isnan(value))


def fisher(table: Sequence[Sequence[int]]) -> float:
    """Two-sided p-value of a 2 x 2 table (Fisher's exact test)."""
    (a, b), (c, d) = table
    first, second, first_column = a + b, c + d, a + c
    ways = [
        math.comb(first, taken) * math.comb(second, first_column - taken)
        for taken in range(max(0, first_column - second), min(first, first_column) + 1)
    ]
    found = ways[a - max(0, first_column - second)]
    return sum(way for way in ways if way <= found) / sum(ways)


def constant(evidence: Evidence) -> Iterator[Finding]:
    """Yield attributes that are constant or nearly so."""
    for name in [*evidence.attributes, *_words(evidence)]:
        values = [entry.values[name] for entry in evidence.entries if not _is_missing(entry.values.get(name))]
        if len(values) < 3:
            continue
        value, count = Counter(values).most_common(1)[0]
        value_text = _number(value) if isinstance(value, float) else quoted(value)
        if count == len(values):
            text = f"{name} is {value_text} of all {len(values)} patients: it can tell nothing"
            yield Finding("warning", "constant", text, "See whether the right column was taken.")
        elif len(values) >= MIN_PATIENTS and count >= NEARLY_CONSTANT * len(values):
            yield Finding("note", "constant", f"{name} is {value_text} of {count} of {len(values)} patients", "")


def levels(evidence: Evidence) -> Iterator[Finding]:
    """Yield words of attributes that differ only in spelling, are rare, or occur in patients to predict only."""
    for name in _words(evidence):
        words = [(entry, entry.values[name]) for entry in evidence.entries if entry.values.get(name)]
        spellings: dict[str, dict[str, None]] = {}
        for _, word in words:
            spellings.setdefault(normalised_id(word), {})[word] = None
        several = tuple(" and ".join(map(repr, found)) for found in spellings.values() if len(found) > 1)
        if several:
            text = f"{counted(len(several), 'word')} of {name} spelt in several ways: each counts as a kind of its own"
            yield Finding("warning", "similar words", text, "Spell each in one way.", several)
        seen = {word for entry, word in words if entry.label != TO_PREDICT}
        unseen = {word for _, word in words} - seen
        if seen and unseen:
            text = f"{name}: {first_few(sorted(map(repr, unseen)))} only of patients to predict: no model will know it"
            places = tuple(entry.place for entry, word in words if word in unseen)
            yield Finding("warning", "unseen word", text, "See whether it is another spelling of a known one.", places)
        lone = sorted(word for word, count in Counter(word for _, word in words).items() if count == 1 and word in seen)
        if lone:
            yield Finding("note", "rare word", f"{name}: {first_few(list(map(repr, lone)))} of one patient alone", "")


CHECKS = (numbers, counts, ages, missing, constant, levels)
