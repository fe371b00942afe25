"""Which patients are held out when: stratified folds over the labelled patients of a cohort.

Shapes: R repeats, P patients of the cohort.
"""

import hashlib

import numpy as np
import pandas as pd

from lymphtune.cohort.cohort import REACTIVE, TO_PREDICT, TUMORAL, Cohort
from lymphtune.errors import InputError

NEVER = -1  # the fold of a patient that is never held out
CLASSES = {"reactive": REACTIVE, "tumoral": TUMORAL}
HOLDOUT = 38  # patients the study held out


def check_trainable(cohort: Cohort, folds: int) -> None:
    """Raise InputError unless every class has enough labelled patients for so many folds."""
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
    n_groups = len({*cohort.groups[cohort.labelled]})
    if n_groups < max(folds, 2):
        raise InputError(
            f"{cohort.name}: {n_groups} {'group' if n_groups == 1 else 'groups'} of labelled patients, each of which "
            f"stays together, for {'a hold-out' if folds == 1 else f'{folds} folds'}; use "
            f"{f'{n_groups} folds or fewer' if n_groups > 1 else 'no such groups'}"
        )


def check_roles(cohort: Cohort) -> str:
    """Raise InputError where a patient to predict shares a picture with a labelled one; return a note on others.

    The note, "" where there is nothing to say, counts pictures that several labelled patients share: one may be
    held out while the other trains.
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
    return f"{among} pictures are of more than one labelled patient: scores may be flattered" if among else ""


def roles_table(cohort: Cohort, folds_RP: np.ndarray) -> pd.DataFrame:
    """Return one row a picture: hash of its patient, hash of the picture, role, fold that holds the patient out."""
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
    """Return 16 hexadecimal digits that stand for an id where the id itself has no business."""
    return hashlib.sha256(b"patient\x1f" + patient.encode()).hexdigest()[:16]


def _remedy(fewest: int) -> str:
    more = "label more patients"
    return f"{more}, or use {fewest} folds or fewer" if fewest >= 2 else more


def cohort_folds(cohort: Cohort, folds: int, repeats: int, seed: int) -> np.ndarray:
    """Return [R, P] int64 as `make_folds` does, groups of patients kept together; InputError where none fits."""
    check_trainable(cohort, folds)
    folds_RP = make_folds(cohort.labels, folds, repeats, seed, groups_P=cohort.groups)
    for fold in range(max(folds, 1)):
        learns = cohort.labels[(cohort.labels != TO_PREDICT) & (folds_RP[0] != fold)]
        if len({*learns.tolist()}) < 2 or not (folds_RP[0] == fold).any():
            raise InputError(
                f"{cohort.name}: its groups cannot be split into {folds} folds with both classes to learn from in "
                "each; use fewer folds, or smaller groups"
            )
    return folds_RP


def make_folds(
    labels: np.ndarray, folds: int, repeats: int, seed: int, holdout: int = HOLDOUT, groups_P: np.ndarray | None = None
) -> np.ndarray:
    """Return [R, P] int64: the fold in which each patient is held out, -1 where it never is.

    Every repeat has the SAME split: repeats change only the seeds of training, so that their spread is the
    spread of training. With two folds or more each labelled patient is held out exactly once (stratified,
    shuffled by `seed`). `folds` 1 is the study's protocol: one stratified hold-out of `holdout` patients or a
    quarter of the labelled ones, whichever is fewer, at least one of each class; the others only train.
    groups_P: patients of one group are in one fold, so that classes and folds are balanced as well as groups allow.
    """
    fold_P = np.full(len(labels), NEVER, dtype=np.int64)
    labelled = np.flatnonzero(labels != TO_PREDICT)
    if groups_P is not None and len({*groups_P[labelled]}) < len(labelled):
        fold_P[labelled] = _grouped(labels[labelled], groups_P[labelled], folds, min(holdout, len(labelled) // 4), seed)
    elif folds == 1:
        fold_P[_holdout(labels, min(holdout, len(labelled) // 4), seed)] = 0
    else:
        from sklearn.model_selection import StratifiedKFold  # slow to import

        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(split.split(labelled, labels[labelled])):
            fold_P[labelled[held_out]] = fold
    return np.tile(fold_P, (repeats, 1))


def _grouped(labels_L: np.ndarray, groups_L: np.ndarray, folds: int, holdout: int, seed: int) -> np.ndarray:
    """Return the fold [L] of each labelled patient, groups kept together; of one hold-out, -1 for those not in it."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts = folds if folds > 1 else min(max(2, round(len(labels_L) / max(holdout, 2))), len({*groups_L}))
    fold_L = np.full(len(labels_L), NEVER, dtype=np.int64)
    split = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(split.split(labels_L, labels_L, groups_L)):
        fold_L[held_out] = fold
    if folds > 1:
        return fold_L
    both = [fold for fold in range(parts) if len({*labels_L[fold_L == fold].tolist()}) == 2]
    return np.where(fold_L == (both or [0])[0], 0, NEVER)


def _holdout(labels: np.ndarray, n_patients: int, seed: int) -> np.ndarray:
    """Return the rows of `n_patients` patients, at least two and one of each class."""
    generator = np.random.default_rng(seed)
    reactive, tumoral = (generator.permutation(np.flatnonzero(labels == label)) for label in (REACTIVE, TUMORAL))
    n_patients = max(n_patients, 2)
    n_reactive = round(n_patients * len(reactive) / (len(reactive) + len(tumoral)))
    n_reactive = min(max(n_reactive, 1), n_patients - 1)
    return np.concatenate([reactive[:n_reactive], tumoral[: n_patients - n_reactive]])


def folds_text(n_folds: int, grouped: bool = False) -> str:
    """Return how patients are split, in words; grouped: some stay together."""
    text = "one stratified hold-out" if n_folds == 1 else f"{n_folds} stratified patient folds"
    return f"{text} (no group of patients in two)" if grouped else text


def folds_table(cohort: Cohort, folds_RP: np.ndarray) -> pd.DataFrame:
    """Return one row for each repeat and patient, columns patient, repeat, fold (-1: never held out)."""
    n_repeats, n_patients = folds_RP.shape
    return pd.DataFrame(
        {
            "patient": cohort.ids * n_repeats,
            "repeat": np.repeat(np.arange(n_repeats), n_patients),
            "fold": folds_RP.reshape(-1),
        }
    )


def folds_hash(table: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change with any row of a table from `folds_table`."""
    rows = zip(table["patient"], table["repeat"], table["fold"], strict=True)
    text = "\x1e".join(f"{patient}\x1f{repeat}\x1f{fold}" for patient, repeat, fold in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
