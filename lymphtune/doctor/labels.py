"""Checks of labels and sexes: unknown words, missing or rare classes."""

from collections.abc import Iterator

from lymphtune.cohort.folds import CLASSES
from lymphtune.cohort.table import quoted
from lymphtune.console import counted
from lymphtune.doctor.evidence import Evidence
from lymphtune.findings import Finding, first_few, sentence

USUAL_FOLDS = 5
# share of labelled patients below which a class is rare
RARE = 0.1


def words(evidence: Evidence) -> Iterator[Finding]:
    """Yield unknown words in the columns of label and sex."""
    columns = evidence.layout.columns
    for check, name, column in (("label", "labels", columns.label), ("sex", "sexes", columns.sex)):
        found = list(evidence.faults(column))
        if not found:
            continue
        distinct = list(dict.fromkeys(quoted(fault.text) for _, fault in found))
        text = f"{counted(len(found), 'row')} with {column} {first_few(distinct)}"
        cure = sentence(f"{found[0][1].expected}; or define these words in cohort.yaml under `{name}`")
        yield Finding("error", check, text, cure, tuple(entry.place for entry, _ in found))


def classes(evidence: Evidence) -> Iterator[Finding]:
    """Yield a class with no or few labelled patients."""
    if not evidence.entries or next(evidence.faults(evidence.layout.columns.label), None) or not evidence.complete:
        return
    if any(entry.label is None for entry in evidence.entries):
        return
    counts = {name: len(evidence.with_label(label)) for name, label in CLASSES.items()}
    fewest = min(counts, key=lambda name: counts[name])
    n_labelled = sum(counts.values())
    if not n_labelled:
        yield Finding("note", "classes", "no patient is labelled: there is nothing to train on, only to predict", "")
    elif not counts[fewest]:
        text = f"{counted(n_labelled, 'labelled patient')}, none of them {fewest}: no model can be trained"
        yield Finding("error", "classes", text, "Label patients of both classes; 0 is reactive, 1 tumoral.")
    elif counts[fewest] == 1:
        text = f"1 {fewest} patient: the fold that holds it out has none to train on, and no search is possible"
        yield Finding("error", "classes", text, f"Label at least one more {fewest} patient.")
    elif counts[fewest] < USUAL_FOLDS:
        text = f"{counted(counts[fewest], f'{fewest} patient')} for {USUAL_FOLDS} folds"
        cure = f"Label more patients, or search with {counts[fewest]} folds or fewer."
        yield Finding("warning", "classes", text, cure)
    elif counts[fewest] < RARE * n_labelled:
        text = f"{counts[fewest]} of {n_labelled} labelled patients are {fewest}: intervals of scores will be wide"
        yield Finding("note", "classes", text, "")


CHECKS = (words, classes)
