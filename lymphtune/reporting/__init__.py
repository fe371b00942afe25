"""The report of a run: one HTML page, and its figures and tables as separate files."""
