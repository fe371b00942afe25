"""The facts of a finished run, gathered once for all sections."""

import pytest

from lymphtune.reporting.facts import Facts, gather
from lymphtune.runs import Run


@pytest.fixture(scope="session")
def facts(searched: Run) -> Facts:
    return gather(searched, None, None, pictures=False)
