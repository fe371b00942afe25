"""Metrics over many models and resamples at once, and their confidence intervals."""
