"""Cohorts that are drawn, not measured: made-up patients, and the pictures of their cells."""
