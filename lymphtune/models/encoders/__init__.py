"""Encoders: one feature vector per cell.

A member is built with (crop_px, options), has `features` (D) and maps pictures [M, 3, H, W] in [-1, 1] to [M, D].
It may have `initialise()`, called before training; `learning_rate_factor`; and `frozen`: it then has
`fit(features_CD, seed)` and maps features [M, D'] from the cache.
"""
