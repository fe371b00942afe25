"""Checks of groups: enough of them for folds, with both classes, and shared between roles."""

from collections.abc import Iterator

from lymphtune.cohort.clinical import linked_groups
from lymphtune.cohort.cohort import TO_PREDICT
from lymphtune.cohort.folds import CLASSES
from lymphtune.console import counted
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.doctor.labels import USUAL_FOLDS
from lymphtune.findings import Finding


def too_few(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if there are fewer groups than the usual folds, or if one group holds a whole class."""
    labelled = evidence.labelled
    if not any(entry.keys for entry in evidence.entries) or not labelled:
        return
    patients = [entry.patient for entry in evidence.entries]
    group_of = dict(
        zip(patients, linked_groups(patients, [dict(entry.keys) for entry in evidence.entries]), strict=True)
    )
    n_groups = len({group_of[entry.patient] for entry in labelled})
    regroup = "roup by a column with more values (cohort.yaml, `groups`)."
    whole = [
        name
        for name, label in CLASSES.items()
        if len({group_of[entry.patient] for entry in evidence.with_label(label)}) == 1
    ]
    if n_groups < USUAL_FOLDS:
        text = f"the labelled patients are in {counted(n_groups, 'group')}; a group is never split between folds"
        cure = f"Search with {n_groups} folds or fewer, or g{regroup}" if n_groups > 1 and not whole else f"G{regroup}"
        yield Finding("error" if n_groups < 2 else "warning", "groups", text, cure)
    if whole and n_groups > 1:
        text = f"all {whole[0]} patients are in one group: the fold that holds it out has none of them to train on"
        yield Finding("error", "groups", text, f"G{regroup}")


def no_value(evidence: Evidence) -> Iterator[Finding]:
    """Yield columns to group by that are empty for some labelled patients, each of whom forms its own group."""
    for column in dict.fromkeys(group.column for group in evidence.layout.groups):
        empty = ("", *evidence.layout.missing)
        without = [entry for entry in evidence.labelled if entry.texts.get(column, "-").strip() in empty]
        if not without:
            continue
        text = f"{counted(len(without), 'labelled patient')} without a value of {column}, by which patients are grouped"
        cure = "Each is a group of its own: give the value, or one word for all that are unknown."
        yield Finding("warning", "no group", text, cure, tuple(entry.place for entry in without))


def one_class(evidence: Evidence) -> Iterator[Finding]:
    """Yield columns to group by in which groups contain one class only, so that the group reveals the label."""
    for name, members in _by_column(evidence).items():
        known = {value: [entry for entry in of if entry.label in CLASSES.values()] for value, of in members.items()}
        large = {value: of for value, of in known.items() if len(of) > 1}
        single = {value: of for value, of in large.items() if len({entry.label for entry in of}) == 1}
        if len(large) < 2 or not single or name == "person":
            continue
        places = tuple(f"{value} ({counted(len(of), 'patient')})" for value, of in single.items())
        text = f"{len(single)} of {len(large)} values of {name.removeprefix('group ')} with patients of one class alone"
        if len(single) == len(large):
            cure = "Whatever differs between them, the pictures' stain among it, will be taken for the disease."
            yield Finding("warning", "group tells label", f"{text}: the group tells the label", cure, places)
        else:
            yield Finding("note", "group tells label", text, "", places)


def shared(evidence: Evidence) -> Iterator[Finding]:
    """Yield columns to group by whose groups contain both labelled patients and patients to predict."""
    for name, members in _by_column(evidence).items():
        both = [value for value, of in members.items() if len({entry.label == TO_PREDICT for entry in of}) > 1]
        if both and name != "person":
            column = name.removeprefix("group ")
            text = f"{len(both)} of {len(members)} values of {column} have labelled patients and patients to predict"
            yield Finding("note", "shared groups", text, "", tuple(both))


def persons(evidence: Evidence) -> Iterator[Finding]:
    """Yield persons with several rows."""
    several = {value: of for value, of in _by_column(evidence).get("person", {}).items() if len(of) > 1}
    if several:
        places = tuple(" and ".join(entry.place for entry in of) for of in several.values())
        text = f"{counted(len(several), 'person')} of several rows, which stay in one fold"
        yield Finding("note", "persons", text, "", places)


def _by_column(evidence: Evidence) -> dict[str, dict[str, list[Entry]]]:
    """The patients by column to group by and value."""
    found: dict[str, dict[str, list[Entry]]] = {}
    for entry in evidence.entries:
        for name, value in entry.keys.items():
            found.setdefault(name, {}).setdefault(value, []).append(entry)
    return found


CHECKS = (too_few, no_value, one_class, shared, persons)
