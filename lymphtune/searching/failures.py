"""When a search gives up: most of its trials fail."""

from collections import Counter

MOSTLY_FAILED = 5  # failures, if they are more than half of all that ended, end the search


class FailurePolicy:
    def __init__(self) -> None:
        self._ended: Counter[bool] = Counter()  # failed or not
        self._failures: Counter[str] = Counter()

    def add(self, failure: str) -> str:
        """Count a trial that ended, "" for one that did not fail; return why the search should end, "" to continue."""
        self._ended[bool(failure)] += 1
        self._failures[failure] += bool(failure)
        failed = self._ended[True]
        if failed < MOSTLY_FAILED or failed <= self._ended[False]:
            return ""
        ((commonest, times),) = self._failures.most_common(1)
        return f"{failed} of the {self._ended.total()} trials that ended have failed ({times}: {commonest})"
