"""Aggregators: from the cells of a bag to one probability.

A member is built with (features, options); its forward takes cells_BND, mask_BN (True = a real cell) and a
head (features [..., D] to logits [...]) and returns a BagOutput.
"""
