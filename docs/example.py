# %% [markdown]
# # A complete study
#
# The cohort is simulated, and no number from it says anything about people. The search is too small for useful
# results. Everything else is as in a real study.

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
# This trains four configurations of the space `tiny`, each on three folds of the patients, and four clinical baselines.
# Every score on the leaderboard is out-of-fold: no model predicts a patient it was trained on. The same patients rank
# the trials, however, so the score of the best one is optimistic.

# %%
run = lymphtune.search("tiny", folder / "cohort", runs=folder / "runs", trials=4, epochs=4, folds=3)
print(run.leaderboard[["title", "status", "balanced_accuracy", "log_loss"]].round(3).to_string(index=False))

# %% [markdown]
# ## Ensemble
#
# The ensemble is the mean of the best network on pictures alone, the best clinical model and the best network on both.
# `naive` is its score on the patients that selected it. `honest` repeats the selection in 1,000 resamples of the
# patients, and scores it on the patients held out of each. Quote `honest`, with its interval.

# %%
ensemble = lymphtune.ensemble("blend", run=run.path)
print(ensemble.summary)

# %% [markdown]
# ## New patients
#
# The saved folder is self-contained: copy it anywhere. The probabilities are those of a tumoral lymphocytosis, if both
# classes are equally frequent.

# %%
saved = lymphtune.Ensemble.load(ensemble.path)
new = lymphtune.load_cohort(folder / "new patients")
for patient, probability in zip(new.ids, saved.predict_proba(new), strict=True):
    print(f"{patient:8} {probability:.2f}")

# %% [markdown]
# ## External validation
#
# The new patients were not used for selection, and their labels are known, so this score needs no correction. `score`
# refuses a cohort in which any patient was seen in training. The interval is wide, because there are few patients.

# %%
accuracy = saved.score(new)["balanced_accuracy"]
print(
    f"balanced accuracy {accuracy.value:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f}), {len(new.labelled)} patients"
)

# %% [markdown]
# ## Probabilities for a spreadsheet

# %%
with (folder / "probabilities.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("patient", "probability"), *zip(new.ids, saved.predict_proba(new), strict=True)])
print(folder / "probabilities.csv")
