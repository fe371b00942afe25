# %% [markdown]
# # A study in one sitting
#
# The simulated cohort stands in for patients: its cells are drawn, and no number from it says anything about people.
# The search is far too small for results. Everything else is as in a real study.

# %%
import csv
import tempfile
from pathlib import Path

import lymphtune
from lymphtune.cohort.simulation.patients import write_simulated

folder = Path(tempfile.mkdtemp())
write_simulated(folder / "cohort", n_patients=60, n_cells=4, seed=0)
write_simulated(folder / "new patients", n_patients=20, n_cells=4, seed=7, prefix="NEW")

# %% [markdown]
# ## Search
#
# Four configurations of the space `tiny`, each trained on three patient folds side by side, with four clinical
# baselines beside them. Every number on the leaderboard is out of fold: no model judged a patient it was trained on.
# But the same patients decide which trial stands on top, so the top is flattered.

# %%
run = lymphtune.search("tiny", folder / "cohort", runs=folder / "runs", trials=4, epochs=4, folds=3)
print(run.leaderboard[["title", "status", "balanced_accuracy", "log_loss"]].round(3).to_string(index=False))

# %% [markdown]
# ## Ensemble, and what it is worth
#
# The mean of the best network on pictures alone, the best clinical model and the best network on both. `naive` is its
# score on the patients that chose it; `honest` repeats the choice itself in 1,000 resamples of the patients, and scores
# it on those left out. Quote `honest`, with its interval.

# %%
ensemble = lymphtune.ensemble("blend", run=run.path)
print(ensemble.summary)

# %% [markdown]
# ## New patients
#
# The saved folder works alone: copy it anywhere. Probabilities are those of a tumoral lymphocytosis, if both classes
# were equally frequent.

# %%
saved = lymphtune.Ensemble.load(ensemble.path)
new = lymphtune.load_cohort(folder / "new patients")
for patient, probability in zip(new.ids, saved.predict_proba(new), strict=True):
    print(f"{patient:8} {probability:.2f}")

# %% [markdown]
# ## An external validation
#
# Patients that chose nothing, and whose labels are known: the only number that needs no correction. `score` refuses a
# cohort in which any patient was seen in training. Its interval is wide, because there are few patients.

# %%
accuracy = saved.score(new)["balanced_accuracy"]
print(
    f"balanced accuracy {accuracy.value:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f}), {len(new.labelled)} patients"
)

# %% [markdown]
# The same for a spreadsheet:

# %%
with (folder / "probabilities.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("patient", "probability"), *zip(new.ids, saved.predict_proba(new), strict=True)])
print(folder / "probabilities.csv")
