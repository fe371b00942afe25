"""What mattered in the search: importances of choices with intervals, and the effect of early stopping."""

import pandas as pd
from scipy.stats import spearmanr

from lymphtune.console import duration
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Note, Part, Section, Table
from lymphtune.reporting.search_drawings import best_so_far, importance_bars, marginal_panels, parallel, rung_strips
from lymphtune.reporting.search_results import FEWEST_MODELLED, SearchResults, shown_value
from lymphtune.statistics.importance import LEAST_EXPLAINED, Importance
from lymphtune.statistics.words import percent

FEWEST = 5  # networks that ended
FEW = 20  # trials, below which importances are guesses
FEWEST_CORRELATED = 8  # trials that ran to the end
NAMED = 3  # choices in the lead


def section(facts: Facts) -> Section | None:
    """Return importances, marginals, all trials, rungs and the best loss; None for fewer than FEWEST networks."""
    searched = SearchResults.of(facts)
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


def _lead(searched: SearchResults, found: Importance | None) -> str:
    n = len(searched.compared)
    if found is None:
        return f"{len(searched.ended)} networks ended; the importance of their choices cannot be told from them."
    if found.explained < LEAST_EXPLAINED:
        return (
            f"What mattered cannot be told: a random forest on the choices does not predict the log losses of "
            f"{n} trials ({_fit(found)})."
        )
    clear = [c for c in found.order if found.stands_out(c)]
    trials = f"{n} trials at epoch {searched.epoch}"
    fit = f"of the variance of the log loss that a random forest predicts, {trials} ({_fit(found)})"
    if not clear:
        most = f"{_name(searched, found.order[0])} has the largest fraction {_bounded(found, found.order[0])}"
        return f"No choice stands out from chance, which gives up to {percent(found.chance)} {fit}; {most}."
    named = [f"{_name(searched, c)} {_bounded(found, c)}" for c in clear[:NAMED]]
    others = len(found.shares) - len(clear)
    rest = f" The other {others} cannot be told from chance." if others > 1 else ""
    most = f"{named[0]} accounts for most" if len(named) == 1 else f"{_joined(named)} account for most"
    if sum(found.shares[c].value for c in clear[:NAMED]) < 0.5:
        most = most.replace("account for most", "stand out").replace("accounts for most", "stands out")
    return f"{most} {fit}.{rest}"


def _warnings(searched: SearchResults, found: Importance | None) -> list[str]:
    n = len(searched.compared)
    if searched.choices is None:
        return ["The choices of the trials are not known: the run was written by another version."]
    if found is None:
        if n < FEWEST_MODELLED:
            return [f"{n} trials are too few for importances: at least {FEWEST_MODELLED}, better 50."]
        return []
    warnings = []
    if found.explained < LEAST_EXPLAINED:
        warnings.append("The forest explains nothing of the losses: the fractions and lines below are not effects.")
    if n < FEW:
        warnings.append(f"{n} trials, under {FEW}: the fractions are uncertain, as their intervals show.")
    if searched.protocol.searcher != "random":
        warnings.append("The searcher concentrated its trials: where it has few, the forest has little data.")
    return warnings


def _table(searched: SearchResults, found: Importance) -> Table:
    rows, shown = [], []
    for c in found.order:
        share, of = found.shares[c], found.marginals[c]
        best = shown_value(searched, c, of.at_G[of.mean_G.argmin()]) if len(of.at_G) else ""
        row = {"choice": _name(searched, c), "share": share.value, "low": share.low, "high": share.high}
        rows.append(row | {"stands_out": found.stands_out(c), "lowest_loss_at": best, "chance": found.chance})
        clear = "yes" if found.stands_out(c) else "no"
        shown.append(
            {
                "choice": row["choice"],
                "share (90 %)": _bounded(found, c, bare=True),
                "stands out": clear,
                "lowest expected loss at": best if clear == "yes" else "",
            }
        )
    return Table(
        "search-importances",
        "Importance by choice",
        f"As in the figure above; chance gives up to {percent(found.chance)}. The value with the lowest expected loss "
        "is named only where the choice stands out; numbers stand for a tenth of their range. It comes from the "
        "patients that ranked the trials.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )


def _saved(searched: SearchResults) -> str:
    """Return the savings by stopping, and how well the order at the first rung predicts the final order."""
    trained, planned = searched.epochs_trained, searched.epochs_planned
    n_stopped = int((searched.ended["status"] == "stopped").sum())
    text = (
        f"{n_stopped} of {len(searched.ended)} trials were stopped early: {trained} of {planned} epochs were trained, "
        f"{percent(1 - trained / planned)} saved, about {duration(searched.seconds_saved)} of one worker's time at "
        "each trial's own speed."
    )
    done = searched.ended[searched.ended["status"] == "done"]
    early = [searched.score(trial, searched.rungs[0].epoch) for trial in done["trial"]]
    if len(done) >= FEWEST_CORRELATED and len(set(early)) > 1 and done["log_loss"].nunique() > 1:
        rank = float(spearmanr(early, done["log_loss"]).statistic)
        text += (
            f" Among the {len(done)} that were trained to the end, the order at epoch {searched.rungs[0].epoch} and at "
            f"the end agree with a rank correlation of {rank:.2f}; how the stopped ones would have ended is not known."
        )
    return text


def _rung_table(searched: SearchResults) -> Table:
    rows = [
        {
            "epoch": rung.epoch,
            "reached": len(rung.scores),
            "stopped": int(rung.stopped.sum()),
            "went on": int((~rung.stopped).sum()),
            "lowest": float(rung.scores.min()),
            "median": float(rung.scores.median()),
            "highest": float(rung.scores.max()),
        }
        for rung in searched.rungs
    ]
    done = searched.ended[searched.ended["status"] == "done"]["log_loss"]
    if len(done):
        rows.append(
            {
                "epoch": int(searched.protocol.epochs),
                "reached": len(done),
                "stopped": 0,
                "went on": 0,
                "lowest": float(done.min()),
                "median": float(done.median()),
                "highest": float(done.max()),
            }
        )
    table = pd.DataFrame(rows)
    return Table(
        "search-rungs-table",
        "Trials and log losses at the rungs",
        "Log losses at a rung are means over the last three epochs; in the last row, of the last epoch.",
        table,
        table.rename(columns={"went on": "continued"}),
    )


def _name(searched: SearchResults, c: int) -> str:
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
