"""Check for attributes that separate the classes alone: often copies of the label, or recorded after the diagnosis.

Shapes: P labelled patients with a value.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lymphtune.cohort.cohort import REACTIVE, TUMORAL
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.findings import Finding

# smallest AUC that is reported; lymphocyte counts of valid cohorts reach about 0.9
MIN_AUC = 0.97
# smallest lower bound of its 95 % interval: few patients can be separated by chance
MIN_LOWER_BOUND = 0.90
# patients of each class
MIN_PER_CLASS = 10
# the same where each of a few values belongs to one class
MIN_PER_CLASS_OF_COPY = 5
# up to this many distinct numbers may be codes without an order
MAX_CODES = 10
Z_95 = 1.96
CURE = (
    "Ask when and by whom it was recorded: a value that is known only after the diagnosis, or copied from it, must "
    "not be an attribute."
)


def separating(evidence: Evidence) -> Iterator[Finding]:
    """Yield attributes that separate the classes alone, exactly or nearly."""
    labelled = [entry for entry in evidence.entries if entry.label in (REACTIVE, TUMORAL)]
    names = dict.fromkeys(name for entry in labelled for name in entry.values if name != "label")
    for name in names:
        values, labels_P = _known(labelled, name)
        counts = [int((labels_P == label).sum()) for label in (REACTIVE, TUMORAL)]
        if min(counts) < MIN_PER_CLASS_OF_COPY:
            continue
        if not is_copy(values, labels_P) and not is_near_certain(auc := auc_of(values, labels_P), *counts):
            continue
        auc = auc_of(values, labels_P)
        how = "separates the classes exactly" if auc == 1 else "nearly separates the classes"
        text = f"{name} alone {how}: AUC {auc:.3f} on {len(labels_P)} labelled patients"
        yield Finding("warning", "attribute tells label", text, CURE)


def _known(entries: Sequence[Entry], name: str) -> tuple[list[Any], np.ndarray]:
    """The values that are present and their patients' labels [P]."""
    pairs = [(entry.values.get(name), entry.label) for entry in entries]
    there = [(value, label) for value, label in pairs if value not in ("", None) and value == value]
    return [value for value, _ in there], np.array([label for _, label in there], dtype=int)


def is_copy(values: Sequence[Any], labels_P: np.ndarray) -> bool:
    """Whether there are few distinct values and each belongs to one class: the label under another name."""
    classes: dict[Any, set[int]] = {}
    for value, label in zip(values, labels_P.tolist(), strict=True):
        classes.setdefault(value, set()).add(label)
    few = 2 <= len(classes) <= max(2, len(values) // 4)
    return few and all(len(of) == 1 for of in classes.values())


def auc_of(values: Sequence[Any], labels_P: np.ndarray) -> float:
    """Area under the ROC curve of the values, in the better direction.

    Words, and numbers with few distinct values, are also ranked by the share of tumoral patients among the other
    patients of the same value (leave-one-out).
    """
    number = all(isinstance(value, int | float) for value in values)
    found = []
    if number:
        ranked = _rank_auc(np.array(values, dtype=float), labels_P)
        found.append(max(ranked, 1 - ranked))
    _, kind_P = np.unique([str(value) for value in values], return_inverse=True)
    if not number or kind_P.max() < MAX_CODES:
        tumoral, size = np.bincount(kind_P, labels_P)[kind_P], np.bincount(kind_P)[kind_P]
        found.append(_rank_auc((tumoral - labels_P + 0.5) / size, labels_P))
    return max(found)


def _rank_auc(score_P: np.ndarray, labels_P: np.ndarray) -> float:
    """Mann-Whitney estimate of the AUC: share of pairs in which the tumoral patient scores higher, ties half."""
    reactive, tumoral = (np.sort(score_P[labels_P == label]) for label in (REACTIVE, TUMORAL))
    below = (np.searchsorted(reactive, tumoral, "left") + np.searchsorted(reactive, tumoral, "right")) / 2
    return float(below.mean() / len(reactive))


def is_near_certain(auc: float, n_reactive: int, n_tumoral: int) -> bool:
    """Whether an AUC and its lower 95 % bound (Hanley and McNeil 1982) are near 1."""
    if min(n_reactive, n_tumoral) < MIN_PER_CLASS or auc < MIN_AUC:
        return False
    first, second = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = (auc * (1 - auc) + (n_tumoral - 1) * first + (n_reactive - 1) * second) / (n_reactive * n_tumoral)
    return auc - Z_95 * max(variance, 0.0) ** 0.5 >= MIN_LOWER_BOUND


CHECKS = (separating,)
