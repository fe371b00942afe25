"""The readers take their seeds, and refuse in one line what once came out wrong; no atheris is needed here."""

import pytest
import yaml

from lymphtune.ensembling.bundle import Ensemble
from tests.fuzz.harnesses import HARNESSES, SCRATCH, grown, plan_of, read_bundle

GONE_WRONG: dict[str, dict[str, bytes]] = {
    "space": {},
    "recipe": {},
    "bundle": {"hashes that are no text": b"\x0301\xce\xd0456  `adef\n"},
    "csv": {},
}


@pytest.mark.parametrize("reader", HARNESSES)
def test_a_reader_takes_its_seeds(reader: str) -> None:
    for seed in HARNESSES[reader].seeds():
        HARNESSES[reader].read(seed)


@pytest.mark.parametrize(("reader", "name"), [(reader, name) for reader in GONE_WRONG for name in GONE_WRONG[reader]])
def test_a_reader_refuses_what_once_came_out_wrong(reader: str, name: str) -> None:
    HARNESSES[reader].read(GONE_WRONG[reader][name])


def test_a_plan_grows_into_what_it_was_made_of() -> None:
    value = yaml.safe_load("{about: hello, grid: true, trials: [1, 200, null, {choose: [a, b]}], x: 0.1}")
    words = ["about", "trials", "choose"]
    assert grown(plan_of(value, words), words) == value


def test_the_seeds_of_a_bundle_are_sound() -> None:
    """Else nothing beyond the first check would ever be reached."""
    read_bundle(b"")
    assert Ensemble.load(SCRATCH / "bundle").members
