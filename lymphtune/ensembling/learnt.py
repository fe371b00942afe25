"""What a combiner and a calibration have learnt, as a file: written, and read back with nothing else let in.

Shapes: M member trials, P patients that were judged.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune.ensembling.procedure import Fitted
from lymphtune.errors import InputError
from lymphtune.statistics.probabilities import as_probabilities

MOST_BYTES = 2**28
GRID = 21  # probabilities that what was read back must have an answer to


def learnt_arrays(fitted: Fitted) -> dict[str, np.ndarray]:
    """Return all that the combiner and the calibration have learnt, as `take_learnt` reads it back."""
    return {
        f"{owner}.{name}": np.ascontiguousarray(vars(part)[name], dtype=np.float64)
        for owner, part in _owners(fitted).items()
        for name in part.learns
    }


def load_learnt(fitted: Fitted, path: Path, n_members: int, n_patients: int) -> None:
    """Give the bare combiner and calibration what the file holds.

    Raises InputError unless these are the finite arrays that the two learn, of shapes that fit so many members and
    patients, and they make probabilities of probabilities.
    """
    given = _read(path)
    owners, lengths = _owners(fitted), {"M": n_members, "P": n_patients}
    expected = {f"{owner}.{name}" for owner, part in owners.items() for name in part.learns}
    if strange := sorted(set(given) ^ expected):
        here = "not among what this ensemble learns" if strange[0] in given else "missing"
        raise InputError(f"{path}: {strange[0][:100]!r} is {here}; copy the folder again")
    for key, value in given.items():
        owner, _, name = key.partition(".")
        if value.dtype != np.float64 or not np.isfinite(value).all() or not _fits(name, value.shape, lengths):
            raise InputError(
                f"{path}: {key} is {value.dtype} {list(value.shape)}; expected finite numbers of {n_members} members "
                f"and {n_patients} patients; copy the folder again"
            )
        vars(owners[owner])[name] = value
    _check_answers(fitted, path, n_members)


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: over {MOST_BYTES // 2**20} MB; copy the folder again")
        return dict(load_file(path))
    except (SafetensorError, ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file, or a damaged one; copy the folder again") from error


def _owners(fitted: Fitted) -> dict[str, Any]:
    calibration = {} if fitted.calibration is None else {"calibration": fitted.calibration}
    return {"combiner": fitted.combiner} | calibration


def _fits(name: str, shape: tuple[int, ...], lengths: dict[str, int]) -> bool:
    """Return whether the shape is what the letters at the name's end say; without any, up to P numbers in a row."""
    if letters := re.search(r"_([MP]+)_$", name):
        return shape == tuple(lengths[letter] for letter in letters[1])
    return len(shape) == 1 and 1 <= shape[0] <= lengths["P"]


def _check_answers(fitted: Fitted, path: Path, n_members: int) -> None:
    members_MG = np.tile(np.linspace(0, 1, GRID), (n_members, 1))
    try:
        with np.errstate(all="ignore"):
            probability_G = fitted.probability(members_MG)
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: its arrays do not fit together; copy the folder again") from error
    if probability_G.shape != (GRID,):
        raise InputError(f"{path}: makes no probabilities; copy the folder again")
    as_probabilities(probability_G, path, "copy the folder again", of=f"of {GRID} inputs from 0 to 1")
