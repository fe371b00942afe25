"""Summary of a cohort: patients, classes, pictures, sizes, ages and counts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lymphtune.cohort.cohort import REACTIVE, TO_PREDICT, TUMORAL
from lymphtune.console import counted, size
from lymphtune.doctor.evidence import Evidence
from lymphtune.doctor.values import AGE, COUNT, given
from lymphtune.errors import one_line

# sizes, modes and formats listed
MAX_KINDS = 3


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum."""

    low: float
    median: float
    high: float

    def text(self, digits: str) -> str:
        return f"{self.low:{digits}} to {self.high:{digits}}, median {self.median:{digits}}"


@dataclass(frozen=True)
class Summary:
    """Contents of a cohort; None for a spread without values."""

    name: str
    simulated: bool
    n_patients: int
    n_reactive: int
    n_tumoral: int
    n_to_predict: int
    # patients whose label cannot be read
    n_unlabelled: int
    n_pictures: int
    # total size of the encoded pictures
    n_bytes: int
    pictures_a_patient: Spread | None
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    formats: Mapping[str, int]
    sexes: Mapping[str, int]
    age_years: Spread | None
    # the day at which ages are computed, as text
    aged_at: str
    lymphocytes_g_per_l: Spread | None

    @property
    def lines(self) -> list[str]:
        """The summary as lines of text."""
        n_labelled = self.n_reactive + self.n_tumoral
        unread = f", {self.n_unlabelled} whose label cannot be read" if self.n_unlabelled else ""
        lines = [
            f"{self.name}{' (SIMULATED)' if self.simulated else ''}: {counted(self.n_patients, 'patient')}: "
            f"{n_labelled} labelled ({self.n_reactive} reactive, {self.n_tumoral} tumoral), {self.n_to_predict} to "
            f"predict{unread}"
        ]
        if self.pictures_a_patient:
            kinds = "; ".join(_most(of) for of in (self.sizes, self.modes, self.formats) if of)
            encoded = f", {size(self.n_bytes)}" if self.n_bytes else ""
            lines.append(
                f"{counted(self.n_pictures, 'picture')}{encoded}; {self.pictures_a_patient.text('.0f')} a patient"
                + (f"; {kinds}" if kinds else "")
            )
        if self.age_years:
            lines.append(f"age {self.aged_at} {self.age_years.text('.0f')} years; sex {_most(self.sexes)}")
        if self.lymphocytes_g_per_l:
            lines.append(f"lymphocytes {self.lymphocytes_g_per_l.text('.3g')} 10^9/L")
        return lines


def _most(of: Mapping[str, int]) -> str:
    """The most frequent kinds as text, with counts if there are several."""
    if len(of) == 1:
        return next(iter(of))
    common = sorted(of.items(), key=lambda item: -item[1])
    more = f" and {len(common) - MAX_KINDS} more" if len(common) > MAX_KINDS else ""
    return ", ".join(f"{name} {count:,}" for name, count in common[:MAX_KINDS]) + more


def summary(evidence: Evidence) -> Summary:
    """Summarise the evidence."""
    counts = [len(bag.inspected) or len(bag.names) for bag in evidence.bags]
    seen = [picture for _, picture in evidence.sound()]
    sexes = Counter(str(entry.values["sex"]) or "unknown" for entry in evidence.entries if "sex" in entry.values)
    return Summary(
        one_line(evidence.name),
        evidence.simulated,
        len(evidence.entries),
        len(evidence.with_label(REACTIVE)),
        len(evidence.with_label(TUMORAL)),
        len(evidence.with_label(TO_PREDICT)),
        sum(entry.label is None for entry in evidence.entries),
        sum(counts),
        sum(picture.n_bytes for _, picture in evidence.inspected()),
        _spread(np.array(counts)),
        Counter(f"{picture.size[0]}x{picture.size[1]}" for picture in seen),
        Counter(picture.mode for picture in seen),
        Counter(picture.format for picture in seen if picture.format),
        sexes,
        _spread(given(evidence, AGE)[1]),
        evidence.aged_at,
        _spread(given(evidence, COUNT)[1]),
    )


def _spread(numbers: np.ndarray) -> Spread | None:
    if not len(numbers) or not numbers.any():
        return None
    return Spread(float(numbers.min()), float(np.median(numbers)), float(numbers.max()))
