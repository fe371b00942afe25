"""Fusions: how the clinical attributes join the pictures.

A member is built with (features, attributes, parts, options): parts makes its aggregators and heads. Its
forward takes cells_BND, mask_BN and standardised attributes_BA, and returns a BagOutput.
"""
