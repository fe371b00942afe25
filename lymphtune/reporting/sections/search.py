"""What mattered in the search: which choices, how surely, and what stopping early did."""

import pandas as pd
from scipy.stats import spearmanr

from lymphtune.console import duration
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Note, Part, Section, Table
from lymphtune.reporting.search_drawings import best_so_far, importance_bars, marginal_panels, parallel, rung_strips
from lymphtune.reporting.searched import FEWEST_MODELLED, Searched, shown_value
from lymphtune.statistics.importance import LEAST_EXPLAINED, Importance
from lymphtune.statistics.words import percent

FEWEST = 5  # networks that ended
FEW = 20  # trials, below which importances are guesses
FEWEST_CORRELATED = 8  # trials that ran to the end
NAMED = 3  # choices in the lead


def section(facts: Facts) -> Section | None:
    """Return importances, marginals, all trials, the rungs and the best so far; None for a handful of networks."""
    searched = Searched.of(facts)
    if len(searched.ended) < FEWEST:
        return None
    found = searched.importance
    parts: list[Part] = [Note(text, warning=True) for text in _warnings(searched, found)]
    if found is not None:
        parts += [importance_bars(searched, found), _table(searched, found)]
        parts += [marginal_panels(searched, found), parallel(searched, found)]
    if searched.rungs:
        parts += [rung_strips(searched), Note(_saved(searched)), _rung_table(searched)]
    parts.append(best_so_far(searched))
    return Section("search", "What mattered in the search?", _lead(searched, found), parts)


def _lead(searched: Searched, found: Importance | None) -> str:
    n = len(searched.compared)
    if found is None:
        return f"{len(searched.ended)} networks ended; what mattered among their choices cannot be told from them."
    if found.explained < LEAST_EXPLAINED:
        return (
            f"What mattered cannot be told: from their choices a random forest predicts nothing of how the log losses "
            f"of {n} trials differ ({_fit(found)})."
        )
    clear = [c for c in found.order if found.stands_out(c)]
    trials = f"{n} trials at epoch {searched.epoch}"
    fit = f"of what a random forest predicts of the log loss of {trials} ({_fit(found)})"
    if not clear:
        most = f"{_name(searched, found.order[0])} has the largest share {_bounded(found, found.order[0])}"
        return f"No choice stands out from chance, which gives up to {percent(found.chance)} {fit}; {most}."
    named = [f"{_name(searched, c)} {_bounded(found, c)}" for c in clear[:NAMED]]
    others = len(found.shares) - len(clear)
    rest = f" The other {others} cannot be told from chance." if others > 1 else ""
    most = f"{named[0]} accounts for most" if len(named) == 1 else f"{_joined(named)} account for most"
    if sum(found.shares[c].value for c in clear[:NAMED]) < 0.5:
        most = most.replace("account for most", "stand out").replace("accounts for most", "stands out")
    return f"{most} {fit}.{rest}"


def _warnings(searched: Searched, found: Importance | None) -> list[str]:
    n = len(searched.compared)
    if searched.choices is None:
        return ["What the trials chose is not known: the run was written by another version."]
    if found is None:
        if n < FEWEST_MODELLED:
            return [f"{n} trials are too few to say what mattered: {FEWEST_MODELLED} at least, better 50."]
        return []
    said = []
    if found.explained < LEAST_EXPLAINED:
        said.append("The forest explains nothing of the losses: do not read the shares and lines below as effects.")
    if n < FEW:
        said.append(f"{n} trials, under {FEW}: shares are guesses, as their intervals show.")
    if searched.protocol.searcher != "random":
        said.append("The searcher chose where to look: where it hardly looked, the forest has little to go by.")
    return said


def _table(searched: Searched, found: Importance) -> Table:
    rows, shown = [], []
    for c in found.order:
        share, of = found.shares[c], found.marginals[c]
        best = shown_value(searched, c, of.at_G[of.mean_G.argmin()]) if len(of.at_G) else ""
        row = {"choice": _name(searched, c), "share": share.value, "low": share.low, "high": share.high}
        rows.append(row | {"stands_out": found.stands_out(c), "lowest_loss_at": best, "chance": found.chance})
        clear = "yes" if found.stands_out(c) else "no"
        shown.append(
            {
                "choice": row["choice"], "share (90 %)": _bounded(found, c, bare=True), "stands out": clear,
                "lowest expected loss at": best if clear == "yes" else "",
            }
        )  # fmt: skip
    return Table(
        "search-importances", "Shares of the variance by choice",
        f"As drawn above; chance gives up to {percent(found.chance)}. The value with the lowest expected loss is named "
        "only where the choice stands out; numbers stand for a tenth of their range. It was found on the patients "
        "that ranked the trials.",
        pd.DataFrame(rows), pd.DataFrame(shown),
    )  # fmt: skip


def _saved(searched: Searched) -> str:
    """Return what stopping spared, and whether the order at the first rung foretold the order at the end."""
    trained, planned = searched.epochs_trained, searched.epochs_planned
    n_stopped = int((searched.ended["status"] == "stopped").sum())
    text = (
        f"{n_stopped} of {len(searched.ended)} trials were stopped early: {trained} of {planned} epochs were trained, "
        f"{percent(1 - trained / planned)} spared, about {duration(searched.seconds_saved)} of one worker's time at "
        "each trial's own pace."
    )
    done = searched.ended[searched.ended["status"] == "done"]
    early = [searched.score(trial, searched.rungs[0].epoch) for trial in done["trial"]]
    if len(done) >= FEWEST_CORRELATED and len(set(early)) > 1 and done["log_loss"].nunique() > 1:
        rank = float(spearmanr(early, done["log_loss"]).statistic)
        text += (
            f" Among the {len(done)} that ran to the end, the order at epoch {searched.rungs[0].epoch} and at the end "
            f"agree with a rank correlation of {rank:.2f}; how those that were stopped would have ended is not known."
        )
    return text


def _rung_table(searched: Searched) -> Table:
    rows = [
        {
            "epoch": rung.epoch, "reached": len(rung.scores), "stopped": int(rung.stopped.sum()),
            "went on": int((~rung.stopped).sum()), "lowest": float(rung.scores.min()),
            "median": float(rung.scores.median()), "highest": float(rung.scores.max()),
        }
        for rung in searched.rungs
    ]  # fmt: skip
    done = searched.ended[searched.ended["status"] == "done"]["log_loss"]
    if len(done):
        rows.append(
            {
                "epoch": searched.protocol.epochs, "reached": len(done), "stopped": 0, "went on": 0,
                "lowest": float(done.min()), "median": float(done.median()), "highest": float(done.max()),
            }
        )  # fmt: skip
    return Table(
        "search-rungs-table", "Trials and log losses at the rungs",
        "Log losses at a rung are means over the last three epochs; in the last row, of the last epoch alone.",
        pd.DataFrame(rows),
    )  # fmt: skip


def _name(searched: Searched, c: int) -> str:
    assert searched.choices is not None
    return searched.choices.choices[c].name


def _bounded(found: Importance, c: int, bare: bool = False) -> str:
    share = found.shares[c]
    bounds = f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
    return f"{percent(share.value)} ({bounds})" if bare else f"({percent(share.value)}, 90 % interval {bounds})"


def _fit(found: Importance) -> str:
    return f"out-of-bag R\u00b2 {found.explained:.2f}".replace("-0", "\N{MINUS SIGN}0")


def _joined(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
