"""Shortcuts that a network may learn instead of the disease: an audit of confounders, and picture shifts."""
