"""Encoders: one feature vector a cell.

A member is built with (crop_px, options), has `features` (D) and maps pictures [M, 3, H, W] to [M, D].
"""
