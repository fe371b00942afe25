"""The reliability curve: fraction of tumoral patients against predicted probability, before and after calibration."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lymphtune.files import atomic_file, write_csv

STAGES = {"before": ("#999999", "o"), "after": ("#0072b2", "s")}


def write_reliability(folder: Path, table: pd.DataFrame, simulated: bool) -> None:
    """Write reliability.csv and the curve as .svg and .png; table: `Scores.reliability`."""
    write_csv(folder / "reliability.csv", table.round(4))
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=1, zorder=0)
    for stage, (colour, marker) in STAGES.items():
        part = table[table["stage"] == stage]
        axes.plot(part["said"], part["true"], color=colour, linewidth=1)
        axes.scatter(
            part["said"],
            part["true"],
            4 * part["patients"],
            color=colour,
            marker=marker,
            alpha=0.8,
            label=f"{stage} calibration",
            linewidths=0,
        )
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    axes.set(xlabel="predicted probability", ylabel="fraction tumoral (class-balanced)")
    axes.set_title("held-out patients (area: number)" + (", SIMULATED" if simulated else ""), fontsize=9)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 300})):
        with atomic_file(folder / f"reliability{suffix}") as scratch:
            figure.savefig(scratch, format=suffix[1:], **options)
