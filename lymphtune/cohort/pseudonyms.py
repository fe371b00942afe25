"""Pseudonyms: ids replaced by keyed hashes, which only the holder of the key and the ids can trace back.

A pseudonym is HMAC-SHA-256 (RFC 2104) of the id. The key is stored in its own file and nowhere else.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.cohort import GROUP
from lymphtune.cohort.folders import composed
from lymphtune.cohort.pictures import Encoded, PictureSource
from lymphtune.cohort.study import natural_key
from lymphtune.errors import InputError
from lymphtune.files import named_write_errors
from lymphtune.platforms import readable_by_others

KEY = re.compile(r"[0-9a-f]{64}\n?")
PSEUDONYM = re.compile(r"x[0-9a-f]{16}")
# ages are rounded to tenths of a year, because an exact age reveals the date of birth
AGE_DIGITS = 1


@dataclass(frozen=True)
class Pseudonyms:
    """Turns ids into pseudonyms; `fingerprint` identifies the key."""

    key: bytes = field(repr=False)

    def of(self, patient: str) -> str:
        return f"x{self._hashed('patient', composed(patient))}"

    @property
    def fingerprint(self) -> str:
        return self._hashed("fingerprint", "")

    def _hashed(self, what: str, text: str) -> str:
        return hmac.new(self.key, f"{what}\x1f{text}".encode(), hashlib.sha256).hexdigest()[:16]


def read_pseudonyms(path: Path, make: bool = False) -> Pseudonyms:
    """Read the key from a file; make=True creates a missing file, readable by its owner only.

    Raises InputError if the file cannot be read, holds no key, or can be read by others.
    """
    if make and not path.exists() and not path.is_symlink():
        _make(path)
    try:
        with path.open("rb") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read(100).decode("ascii")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such key file; restore it, or name another one") from error
    except OSError as error:
        raise InputError(f"{path}: the key cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise _no_key(path) from error
    if not KEY.fullmatch(text):
        raise _no_key(path)
    if readable_by_others(mode):
        raise InputError(f"{path}: others can read this key (mode {stat.S_IMODE(mode):o}); run chmod 600 on it")
    return Pseudonyms(bytes.fromhex(text.strip()))


def _make(path: Path) -> None:
    with named_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii", newline="\n"
        ) as file:
            file.write(f"{secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())


def _no_key(path: Path) -> InputError:
    return InputError(f"{path}: not a key; expected 64 hexadecimal digits, or name a file that does not exist yet")


def are_pseudonyms(ids: Sequence[str]) -> bool:
    return all(map(PSEUDONYM.fullmatch, ids))


def pseudonymised(surveyed: CohortSurvey, pseudonyms: Pseudonyms) -> CohortSurvey:
    """The cohort with pseudonyms as ids, sorted by them; pictures are named by number, ages rounded to 0.1 years.

    Raises InputError if the ids are pseudonyms already.
    """
    ids = surveyed.patients["patient"].tolist()
    if are_pseudonyms(ids):
        raise InputError(f"{surveyed.name}: its ids are pseudonyms already; leave --pseudonymise out")
    named = surveyed.patients.assign(
        patient=[pseudonyms.of(patient) for patient in ids], age_years=surveyed.patients["age_years"].round(AGE_DIGITS)
    )
    if GROUP in named.columns:
        # groups are named after a patient
        named[GROUP] = [pseudonyms.of(group) for group in named[GROUP]]
    order = np.array(sorted(range(len(ids)), key=lambda row: natural_key(named["patient"][row])), dtype=int)
    patients = named.iloc[order].reset_index(drop=True)

    def sources(rows: range) -> list[PictureSource]:
        return [
            _NumberedPictures(surveyed.sources(range(order[row], order[row] + 1)), patients["patient"][row], n_cells)
            for row, n_cells in zip(rows, patients["n_cells"].iloc[rows.start : rows.stop], strict=True)
        ]

    return replace(surveyed, patients=patients, sources=sources)


@dataclass(frozen=True)
class _NumberedPictures:
    """A patient's pictures named by their number, because file names may contain the patient's id."""

    parts: Sequence[PictureSource]
    pseudonym: str
    n_pictures: int

    def __len__(self) -> int:
        return int(self.n_pictures)

    def read(self) -> Iterator[Encoded]:
        pictures = (picture for part in self.parts for picture in part.read())
        for number, (_, given, data) in enumerate(pictures):
            suffix = Path(given).suffix.lower()
            name = f"{number:06d}{suffix if len(suffix) < 6 else ''}"
            yield Encoded(f"{self.pseudonym}/{name}", name, data)
