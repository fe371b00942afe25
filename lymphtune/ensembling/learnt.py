"""The fitted arrays of a combiner and a calibration as a file, validated when it is read.

Shapes: M member trials, P scored patients, G probabilities of a grid.
"""

import re
from pathlib import Path

import numpy as np

from lymphtune.calibrations import Calibration
from lymphtune.combiners import Combiner
from lymphtune.ensembling.procedure import Fitted
from lymphtune.errors import InputError
from lymphtune.statistics.probabilities import as_probabilities

MOST_BYTES = 2**28
GRID = 21  # number of probabilities on which the fitted procedure is tested after reading


def learnt_arrays(fitted: Fitted) -> dict[str, np.ndarray]:
    """Return the fitted arrays of the combiner and the calibration, as `load_learnt` reads them."""
    return {
        f"{owner}.{name}": np.ascontiguousarray(vars(part)[name], dtype=np.float64)
        for owner, part in _owners(fitted).items()
        for name in part.learns
    }


def load_learnt(fitted: Fitted, path: Path, n_members: int, n_patients: int) -> None:
    """Set the fitted arrays of the combiner and the calibration from the file.

    Raises InputError unless the file holds exactly their arrays, finite, with shapes that match the numbers of members
    and patients, and the loaded procedure maps probabilities to probabilities.
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


def _owners(fitted: Fitted) -> dict[str, Combiner | Calibration]:
    owners: dict[str, Combiner | Calibration] = {"combiner": fitted.combiner}
    return owners if fitted.calibration is None else owners | {"calibration": fitted.calibration}


def _fits(name: str, shape: tuple[int, ...], lengths: dict[str, int]) -> bool:
    """Return whether the shape matches the letters at the end of the name, or without any is [1] to [P]."""
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
        raise InputError(f"{path}: does not give one probability per patient; copy the folder again")
    as_probabilities(probability_G, path, "copy the folder again", of=f"of {GRID} inputs from 0 to 1")
