"""The ledger: what was appended is there, whatever became of the file's end."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lymphtune.files import DiskFullError
from lymphtune.runs.ledger import Ledger, packed, unpacked

FACTS = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "text": 'new\nline "é"'}, {"epoch": 3, "none": None}]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    filled = Ledger(tmp_path / "sub" / "ledger.jsonl")
    for fact in FACTS:
        filled.append(fact)
    return filled


def test_what_was_appended_is_read(ledger: Ledger) -> None:
    assert ledger.read() == FACTS
    assert Ledger(ledger.path.with_name("none")).read() == []


def test_cut_anywhere_it_keeps_the_whole_lines_and_goes_on(ledger: Ledger) -> None:
    content = ledger.path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content)):
        ledger.path.write_bytes(content[:length])
        whole = sum(end <= length for end in ends)
        assert Ledger(ledger.path).read() == FACTS[:whole]
        Ledger(ledger.path).append({"new": True})
        assert Ledger(ledger.path).read() == [*FACTS[:whole], {"new": True}]


def test_nothing_after_a_damaged_line_is_believed(ledger: Ledger) -> None:
    content = bytearray(ledger.path.read_bytes())
    content[content.index(b"\n") + 15] ^= 1
    ledger.path.write_bytes(bytes(content))
    assert Ledger(ledger.path).read() == FACTS[:1]
    ledger.path.write_bytes(b"\x00" * 500)
    assert Ledger(ledger.path).read() == []


def test_cut_keeps_the_first(ledger: Ledger) -> None:
    ledger.cut(2)
    assert ledger.read() == FACTS[:2]
    ledger.append(FACTS[2])
    assert ledger.read() == FACTS


def test_a_full_disk_keeps_no_half_of_a_line(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFullError, match=r"ledger.jsonl: cannot be written \(No space left on device\)"):
        ledger.append({"epoch": 4})
    assert ledger.path.read_bytes() == before


@given(arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(0, 9)), elements=st.floats(allow_nan=True)))
def test_arrays_keep_every_bit(array: np.ndarray) -> None:
    assert unpacked(packed(array)).tobytes() == array.tobytes()
    assert unpacked(packed(array)).shape == array.shape
