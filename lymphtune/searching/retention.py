"""Which trials keep their weights: the best of a run, and the best of each kind."""

from bisect import insort

from lymphtune.searching.record import Record

BEST_OF_EACH = 1  # trials of each kind that keep their weights whatever their rank: a blend averages them
Rank = tuple[bool, float, int]


class CheckpointRetention:
    """Ranks settled networks; the weights of those that fall behind are to be deleted, and never come back."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.kept: set[int] = set()  # trials whose weights are on disk
        self._ranked: list[Rank] = []  # settled networks that have not failed
        self._best: dict[str, list[Rank]] = {}  # the first BEST_OF_EACH of them, by the inputs they use

    def add(self, record: Record, has_weights: bool) -> set[int]:
        """Place a settled trial in the ranking; return the numbers of the trials whose weights are to be deleted."""
        if record.row["status"] == "failed":
            return set()
        insort(self._ranked, _rank(record))
        best = self._best.setdefault(record.row["sees"], [])
        insort(best, _rank(record))
        del best[BEST_OF_EACH:]
        of_each = {number for ranks in self._best.values() for *_, number in ranks}
        kept = {number for *_, number in self._ranked[: self.keep]} | of_each
        fallen = (self.kept | ({record.trial.number} if has_weights else set())) - kept
        self.kept = kept
        return fallen


def _rank(record: Record) -> Rank:
    """Return the sort key: trials that ran to their end come first, as ensembles take those."""
    return record.row["status"] != "done", record.row["log_loss"], record.trial.number
