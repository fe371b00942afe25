"""Checks for duplicate pictures: identical files, or the same picture re-encoded, scaled, mirrored or rotated.

Shapes: C pictures, T side of a thumbnail, H half of it, K pixels of a flattened one, B pictures of a block.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lymphtune.cohort.cohort import TO_PREDICT, evenly_spaced
from lymphtune.console import counted
from lymphtune.doctor.evidence import Bag, Evidence, InspectedPicture
from lymphtune.doctor.inspection import SIDE
from lymphtune.doctor.pictures import is_blank
from lymphtune.findings import Finding, Severity

# correlation from which two thumbnails count as the same picture; invariant to brightness and contrast
MIN_CORRELATION = 0.975
# squared distance of two unit-length thumbnails with that correlation
MAX_DISTANCE = 2 * (1 - MIN_CORRELATION)
# rounding error of single precision
TOLERANCE = 1e-4
# pictures compared; an evenly spaced subset of larger cohorts
MAX_COMPARED = 30_000
# pairs that are compared in full
MAX_CANDIDATES = 2_000_000
# with more pairs than this, in total and per picture, the pictures are merely similar
MANY_PAIRS, MAX_PAIRS_EACH = 100, 4
# pictures per block of the distance matrix, and pairs per comparison
BLOCK = 1000
PAIRS = 20_000
ROLES = "No patient may have two roles: find out whose it is, and take the other out."
WHOSE = "Find out whose they are: one patient may be held out while the other trains."
BagPicture = tuple[Bag, InspectedPicture]


def same_files(evidence: Evidence) -> Iterator[Finding]:
    """Yield pictures whose files are identical."""
    found: dict[str, list[BagPicture]] = {}
    for bag, picture in evidence.sound():
        found.setdefault(picture.digest, []).append((bag, picture))
    pairs = [(group[0], other) for group in found.values() for other in group[1:]]
    yield from _pair_findings(evidence, pairs, "same picture", "is the same file")


def within_bags(patients: Sequence[str], digests: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Yield patients who have a picture twice; digests: those of each patient's pictures."""
    twice = {patient: len(of) - len({*of}) for patient, of in zip(patients, digests, strict=True)}
    places = tuple(f"{patient} ({count})" for patient, count in twice.items() if count)
    if places:
        text = f"{counted(sum(twice.values()), 'picture')} that a patient has already, as the same file"
        yield Finding("warning", "same picture", text, "Leave one of each out.", places)


def similar_pictures(evidence: Evidence) -> Iterator[Finding]:
    """Yield pairs of similar pictures that are not the same file."""
    seen = [one for one in evidence.sound() if one[1].thumbnail_TT is not None and not is_blank(one[1])]
    first: dict[str, BagPicture] = {}
    for one in seen:
        first.setdefault(one[1].digest, one)
    distinct = list(first.values())
    if len(distinct) > MAX_COMPARED:
        text = f"{MAX_COMPARED:,} of {len(distinct):,} pictures were compared for likeness, evenly many of all"
        yield Finding("note", "similar pictures", text, "")
        distinct = [distinct[place] for place in evenly_spaced(len(distinct), MAX_COMPARED)]
    thumbnails = [picture.thumbnail_TT for _, picture in distinct if picture.thumbnail_TT is not None]
    found = similar_pairs(thumbnails)
    if found is None or (
        len(found) > MANY_PAIRS and len(found) > MAX_PAIRS_EACH * len({number for pair in found for number in pair})
    ):
        text = "pictures are so alike that a copy cannot be told from another cell: copies were not looked for"
        yield Finding("note", "similar pictures", text, "")
        return
    pairs = [(distinct[low], distinct[high]) for low, high in found]
    yield from _pair_findings(
        evidence, pairs, "similar pictures", "is the same picture, saved anew, scaled, mirrored or turned"
    )


def _pair_findings(
    evidence: Evidence, pairs: Sequence[tuple[BagPicture, BagPicture]], check: str, how: str
) -> Iterator[Finding]:
    """Yield one finding for the pairs within a patient, across patients, and across the two roles."""
    rows = evidence.rows
    kinds: dict[str, list[str]] = {"within": [], "across": [], "roles": []}
    for one, other in pairs:
        labels = {rows[bag.patient].label == TO_PREDICT for bag, _ in (one, other) if bag.patient in rows}
        kind = "within" if one[0].patient == other[0].patient else "roles" if len(labels) > 1 else "across"
        kinds[kind].append(f"{one[0].place(one[1].name)} = {other[0].place(other[1].name)}")
    kinds_of_pairs: tuple[tuple[str, Severity, str, str], ...] = (
        ("roles", "error", "of a labelled patient and one to predict", ROLES),
        ("across", "warning", "of two patients", WHOSE),
        ("within", "warning" if check == "same picture" else "note", "of one patient", "Leave one of each out."),
    )
    for kind, severity, whose, cure in kinds_of_pairs:
        if kinds[kind]:
            n_pairs = len(kinds[kind])
            text = f"{counted(n_pairs, 'pair')} of pictures {whose}: one {how}"
            yield Finding(severity, check, text, "" if severity == "note" else cure, tuple(kinds[kind]))


def similar_pairs(thumbnails: Sequence[np.ndarray]) -> list[tuple[int, int]] | None:
    """Pairs of indices (low, high) whose correlation is at least MIN_CORRELATION in one of the eight orientations.

    None if there are more than MAX_CANDIDATES candidate pairs, because the pictures are all similar. Candidates are
    found by the mean over the eight orientations and by 2 x 2 means. Both are projections, which never increase a
    distance, so no pair is missed.
    """
    if len(thumbnails) < 2:
        return []
    fine_CTT = _standardised(np.stack(thumbnails))
    coarse_CHH = fine_CTT.reshape(len(fine_CTT), SIDE // 2, 2, SIDE // 2, 2).sum(axis=(2, 4)) / 2
    coarse_8CK = [oriented_CHH.reshape(len(oriented_CHH), -1) for oriented_CHH in _orientations(coarse_CHH)]
    length_C = (coarse_8CK[0] ** 2).sum(axis=1)
    found: list[tuple[int, int]] = []
    n_candidates = 0
    for rows, columns in _candidates(fine_CTT):
        n_candidates += len(rows)
        if n_candidates > MAX_CANDIDATES:
            return None
        product = np.max(
            [np.einsum("ck,ck->c", coarse_8CK[0][rows], orientation[columns]) for orientation in coarse_8CK], axis=0
        )
        near = length_C[rows] + length_C[columns] - 2 * product <= MAX_DISTANCE + TOLERANCE
        rows, columns = rows[near], columns[near]
        same = np.max(
            [np.einsum("ckl,ckl->c", fine_CTT[rows], orientation) for orientation in _orientations(fine_CTT[columns])],
            axis=0,
        )
        found += zip(rows[same >= MIN_CORRELATION].tolist(), columns[same >= MIN_CORRELATION].tolist(), strict=True)
    return found


def _candidates(fine_CTT: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (low indices, high indices) that are close in their mean over orientations, at most PAIRS at once."""
    corner_CK = _orientation_mean(fine_CTT)
    length_C, one_C = (corner_CK**2).sum(axis=1), np.ones(len(corner_CK), np.float32)
    # the product of a row of left_CK and a row of right_CK is the squared distance of two pictures
    left_CK = np.column_stack([-2 * corner_CK, length_C, one_C])
    right_CK = np.column_stack([corner_CK, one_C, length_C])
    for start in range(0, len(corner_CK), BLOCK):
        near_BC = left_CK[start : start + BLOCK] @ right_CK[start:].T <= MAX_DISTANCE + TOLERANCE
        # faster than np.nonzero of two axes
        rows, columns = np.divmod(np.flatnonzero(near_BC), near_BC.shape[1])
        upper = np.flatnonzero(rows < columns)
        for some in (upper[at : at + PAIRS] for at in range(0, len(upper), PAIRS)):
            yield rows[some] + start, columns[some] + start


def _standardised(thumbnails_CTT: np.ndarray) -> np.ndarray:
    """The thumbnails with mean 0 and Euclidean length 1."""
    centred_CTT = thumbnails_CTT.astype(np.float32)
    centred_CTT -= centred_CTT.mean(axis=(1, 2), keepdims=True)
    return centred_CTT / np.maximum(np.sqrt((centred_CTT**2).sum(axis=(1, 2), keepdims=True)), 1e-6)


def _orientations(pictures_CKK: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pictures in the eight orientations (dihedral transforms)."""
    for turns in range(4):
        turned_CKK = np.rot90(pictures_CKK, turns, axes=(1, 2))
        yield turned_CKK
        yield turned_CKK[:, :, ::-1]


def _orientation_mean(pictures_CKK: np.ndarray) -> np.ndarray:
    """Mean over the eight orientations, its distinct values only, weighted so that distances are preserved."""
    half = pictures_CKK.shape[1] // 2
    mirrored_sum_CKH = pictures_CKK[:, :, :half] + pictures_CKK[:, :, : half - 1 : -1]
    corner_CHH = mirrored_sum_CKH[:, :half] + mirrored_sum_CKH[:, : half - 1 : -1]
    corner_CHH = corner_CHH + corner_CHH.transpose(0, 2, 1)
    rows, columns = np.triu_indices(half)
    return corner_CHH[:, rows, columns] * (np.sqrt(np.where(rows == columns, 4.0, 8.0)) / 8).astype(np.float32)


CHECKS = (same_files, similar_pictures)
