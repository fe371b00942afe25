"""Trials on a Ray cluster: all that imports Ray, and the search that is driven there."""
