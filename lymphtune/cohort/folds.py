"""Stratified folds over the labelled patients of a cohort.

Shapes: R repeats, P patients of the cohort, L labelled patients, G groups.
"""

import hashlib
import warnings

import numpy as np
import pandas as pd

from lymphtune.cohort.cohort import REACTIVE, TO_PREDICT, TUMORAL, Cohort
from lymphtune.errors import InputError

# the fold of a patient that is never held out
NEVER = -1
CLASSES = {"reactive": REACTIVE, "tumoral": TUMORAL}
# patients that the study held out
HOLDOUT = 38
# held-out patients of each class that a selection-corrected score needs: a resample can leave one of them out
MIN_HELD_OUT_PER_CLASS = 2
# random assignments of groups to folds, of which the most even one is used
RANDOM_SPLITS = 200


def check_trainable(cohort: Cohort, folds: int) -> None:
    """Raise InputError unless every class has enough labelled patients for this number of folds."""
    if folds < 1:
        raise InputError(f"folds: {folds}; expected 2 or more, or 1 for a single hold-out")
    if not len(cohort.labelled):
        raise InputError(f"{cohort.name}: no labelled patient; expected some with LABEL 0 and some with LABEL 1")
    counts = {name: int((cohort.labels == label).sum()) for name, label in CLASSES.items()}
    for name, count in counts.items():
        if not count:
            raise InputError(
                f"{cohort.name}: {len(cohort.labelled)} labelled patients, none of them {name}; expected both classes"
            )
        if count < max(folds, 2):
            raise InputError(
                f"{cohort.name}: {count} {name} {'patient' if count == 1 else 'patients'} for "
                f"{'a hold-out' if folds == 1 else f'{folds} folds'}; {_remedy(min(counts.values()))}"
            )
    _check_groups(cohort, folds)


def _check_groups(cohort: Cohort, folds: int) -> None:
    """Raise InputError unless the groups can be split into this number of folds with both classes to train on."""
    labels_L, groups_L = cohort.labels[cohort.labelled], cohort.groups[cohort.labelled]
    n_groups, asked = len({*groups_L}), "a hold-out" if folds == 1 else f"{folds} folds"
    for name, label in CLASSES.items():
        if len({*groups_L[labels_L == label]}) == 1 < n_groups:
            raise InputError(
                f"{cohort.name}: all {name} patients are in one group, which is never split: the fold that holds it "
                f"out leaves none of them to train on, for {asked}; group by a column with more values"
            )
    if n_groups < max(folds, 2):
        most = min(n_groups, *(int((labels_L == label).sum()) for label in CLASSES.values()))
        raise InputError(
            f"{cohort.name}: {n_groups} {'group' if n_groups == 1 else 'groups'} of labelled patients, which are "
            f"never split, for {asked}; use {f'{most} folds or fewer' if most > 1 else 'no such groups'}"
        )


def check_roles(cohort: Cohort) -> str:
    """Raise InputError if a patient to predict shares a picture with a labelled one; return a note on other sharing.

    The note counts pictures that several labelled patients share, one of whom may be held out while another trains;
    "" if there are none.
    """
    owners: dict[str, set[int]] = {}
    for row, digests in enumerate(cohort.digests_of_bags):
        for digest in digests:
            owners.setdefault(digest, set()).add(row)
    shared = [rows for rows in owners.values() if len(rows) > 1]
    labelled = set(cohort.labelled.tolist())
    for rows in shared:
        known, new = sorted(rows & labelled), sorted(rows - labelled)
        if known and new:
            raise InputError(
                f"{cohort.name}: {cohort.ids[new[0]]}, to predict, shares a picture with the labelled patient "
                f"{cohort.ids[known[0]]}; no patient may have two roles: remove one of the two"
            )
    among = sum(len(rows & labelled) > 1 for rows in shared)
    return f"{among} pictures belong to more than one labelled patient: scores may be optimistic" if among else ""


def roles_table(cohort: Cohort, folds_RP: np.ndarray) -> pd.DataFrame:
    """One row per picture: hash of its patient, hash of the picture, role, fold that holds the patient out."""
    counts = cohort.patients["n_cells"].to_numpy()
    role = np.where(cohort.labels == TO_PREDICT, "to predict", "labelled")
    return pd.DataFrame(
        {
            "patient": np.repeat([hashed(patient) for patient in cohort.ids], counts),
            "picture": [digest[:16] for digest in cohort.picture_digests],
            "role": np.repeat(role, counts),
            "fold": np.repeat(folds_RP[0], counts),
        }
    )


def hashed(patient: str) -> str:
    """Hash of an id, 16 hexadecimal digits, for files that must not contain ids."""
    return hashlib.sha256(b"patient\x1f" + patient.encode()).hexdigest()[:16]


def _remedy(fewest: int) -> str:
    more = "label more patients"
    return f"{more}, or use {fewest} folds or fewer" if fewest >= 2 else more


def cohort_folds(cohort: Cohort, folds: int, repeats: int, seed: int) -> np.ndarray:
    """Folds [R, P] as `make_folds` returns them, with groups kept together; raises InputError if that is impossible."""
    check_trainable(cohort, folds)
    folds_RP = make_folds(cohort.labels, folds, repeats, seed, groups_P=cohort.groups)
    labelled = cohort.labelled
    if not usable(folds_RP[0][labelled], cohort.labels[labelled], folds):
        raise InputError(
            f"{cohort.name}: its groups cannot be split into {folds} folds with both classes to train on in each; "
            "use fewer folds, or smaller groups"
        )
    return folds_RP


def few_held_out_note(labels_P: np.ndarray) -> str:
    """A warning if there are too few held-out patients for a selection-corrected score, else ""."""
    for name, label in CLASSES.items():
        count = int((labels_P == label).sum())
        if count < MIN_HELD_OUT_PER_CLASS:
            patients = "1 patient" if count == 1 else f"{count} patients"
            return (
                f"{patients} of the class {name} held out: metrics of one patient are 0 or 1, and `ensemble` needs "
                f"{MIN_HELD_OUT_PER_CLASS} of each class; label more patients, or search with 2 folds or more"
            )
    return ""


def make_folds(
    labels: np.ndarray, folds: int, repeats: int, seed: int, holdout: int = HOLDOUT, groups_P: np.ndarray | None = None
) -> np.ndarray:
    """The fold [R, P] int64 in which each patient is held out, -1 for never.

    Every repeat has the SAME split. Repeats change only the seeds of training, so their spread measures training
    alone. With two folds or more, each labelled patient is held out exactly once (stratified, shuffled by `seed`).
    `folds` 1 is the study's protocol: one stratified hold-out of `holdout` patients or a quarter of the labelled
    ones, whichever is fewer, with at least one of each class; the others are only trained on.
    groups_P: patients of one group are in one fold; classes and folds are then balanced as far as groups allow.
    """
    fold_P = np.full(len(labels), NEVER, dtype=np.int64)
    labelled = np.flatnonzero(labels != TO_PREDICT)
    if groups_P is not None and len({*groups_P[labelled]}) < len(labelled):
        fold_P[labelled] = _group_folds(
            labels[labelled], groups_P[labelled], folds, min(holdout, len(labelled) // 4), seed
        )
    elif folds == 1:
        fold_P[_holdout(labels, min(holdout, len(labelled) // 4), seed)] = 0
    else:
        # scikit-learn is slow to import
        from sklearn.model_selection import StratifiedKFold

        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(split.split(labelled, labels[labelled])):
            fold_P[labelled[held_out]] = fold
    return np.tile(fold_P, (repeats, 1))


def _group_folds(labels_L: np.ndarray, groups_L: np.ndarray, folds: int, holdout: int, seed: int) -> np.ndarray:
    """The fold [L] of each labelled patient with groups kept together; -1 outside a single hold-out."""
    from sklearn.model_selection import StratifiedGroupKFold

    n_groups = len({*groups_L})
    parts = folds if folds > 1 else min(max(2, round(len(labels_L) / max(holdout, 2))), n_groups)
    if n_groups < parts or parts < 2:
        return np.full(len(labels_L), NEVER, dtype=np.int64)
    fold_L = np.full(len(labels_L), NEVER, dtype=np.int64)
    split = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns if a class has fewer patients than there are parts
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(split.split(labels_L, labels_L, groups_L)):
            fold_L[held_out] = fold
    if folds == 1:
        both = [fold for fold in range(parts) if len({*labels_L[fold_L == fold].tolist()}) == 2]
        fold_L = np.where(fold_L == (both or [0])[0], 0, NEVER)
    if usable(fold_L, labels_L, folds):
        return fold_L
    return _random_group_folds(labels_L, groups_L, folds, holdout, seed)


def usable(fold_L: np.ndarray, labels_L: np.ndarray, folds: int) -> bool:
    """Whether every fold holds out a patient and leaves both classes; a single hold-out must contain both as well."""
    for fold in range(folds):
        held_L = fold_L == fold
        if not held_L.any() or len({*labels_L[~held_L].tolist()}) < 2:
            return False
    return folds > 1 or len({*labels_L[fold_L == 0].tolist()}) == 2


def _random_group_folds(labels_L: np.ndarray, groups_L: np.ndarray, folds: int, holdout: int, seed: int) -> np.ndarray:
    """The most even usable one of RANDOM_SPLITS random assignments of groups to folds, as `_group_folds` returns it.

    StratifiedGroupKFold leaves folds empty if there are about as many groups as folds (scikit-learn issue 34828), and
    ignores that a class may be in few groups. Here every fold has at least one group. If no assignment is usable,
    every fold is -1.
    """
    rng, best, least = np.random.default_rng(seed), np.full(len(labels_L), NEVER, dtype=np.int64), np.inf
    _, group_L = np.unique(groups_L, return_inverse=True)
    n_groups = int(group_L.max()) + 1
    for _ in range(RANDOM_SPLITS):
        fold_L = _random_assignment(rng, n_groups, folds)[group_L]
        if folds == 1:
            fold_L = _first_holdout_groups(rng.permutation(n_groups)[group_L], labels_L, holdout)
        if not usable(fold_L, labels_L, folds):
            continue
        uneven = _unevenness(fold_L, labels_L, folds) if folds > 1 else abs(int((fold_L == 0).sum()) - holdout)
        if uneven < least:
            best, least = fold_L, uneven
    return best


def _random_assignment(rng: np.random.Generator, n_groups: int, folds: int) -> np.ndarray:
    """A random fold for each group [G]; every fold occurs at least once."""
    return rng.permutation(np.concatenate([np.arange(folds), rng.integers(folds, size=max(n_groups - folds, 0))]))


def _first_holdout_groups(place_L: np.ndarray, labels_L: np.ndarray, holdout: int) -> np.ndarray:
    """0 for the patients of the first groups that together have both classes and `holdout` patients, else -1.

    place_L: each patient's group as its place in a random order.
    """
    for last in range(int(place_L.max()) + 1):
        held_L = place_L <= last
        if held_L.sum() >= holdout and len({*labels_L[held_L].tolist()}) == 2:
            break
    return np.where(held_L, 0, NEVER)


def _unevenness(fold_L: np.ndarray, labels_L: np.ndarray, folds: int) -> float:
    """Unevenness of the folds: sum over classes of the variance of the folds' counts."""
    return float(sum(np.bincount(fold_L[labels_L == label], minlength=folds).var() for label in CLASSES.values()))


def _holdout(labels: np.ndarray, n_patients: int, seed: int) -> np.ndarray:
    """The rows of `n_patients` patients (at least two), with at least one of each class."""
    generator = np.random.default_rng(seed)
    reactive, tumoral = (generator.permutation(np.flatnonzero(labels == label)) for label in (REACTIVE, TUMORAL))
    n_patients = max(n_patients, 2)
    n_reactive = round(n_patients * len(reactive) / (len(reactive) + len(tumoral)))
    n_reactive = min(max(n_reactive, 1), n_patients - 1)
    return np.concatenate([reactive[:n_reactive], tumoral[: n_patients - n_reactive]])


def folds_text(n_folds: int, grouped: bool = False) -> str:
    """The split of patients as text; grouped: groups are kept together."""
    text = "one stratified hold-out" if n_folds == 1 else f"{n_folds} stratified patient folds"
    return f"{text} (no group of patients in two)" if grouped else text


def folds_table(cohort: Cohort, folds_RP: np.ndarray) -> pd.DataFrame:
    """One row per repeat and patient, columns patient, repeat, fold (-1: never held out)."""
    n_repeats, n_patients = folds_RP.shape
    return pd.DataFrame(
        {
            "patient": cohort.ids * n_repeats,
            "repeat": np.repeat(np.arange(n_repeats), n_patients),
            "fold": folds_RP.reshape(-1),
        }
    )


def folds_hash(table: pd.DataFrame) -> str:
    """Hash of a table from `folds_table`, 16 hexadecimal digits."""
    rows = zip(table["patient"], table["repeat"], table["fold"], strict=True)
    text = "\x1e".join(f"{patient}\x1f{repeat}\x1f{fold}" for patient, repeat, fold in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
