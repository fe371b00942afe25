"""Ensembling: combine the best trials of a run, score the ensemble, and save it as a self-contained folder."""
