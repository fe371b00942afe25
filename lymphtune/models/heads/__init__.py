"""Heads: features to one logit. A member is built with (features, options) and maps [..., D] to [...]."""
