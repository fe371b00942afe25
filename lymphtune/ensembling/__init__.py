"""Ensembling: the best trials of a run averaged, scored honestly, and saved as a folder that works alone."""
