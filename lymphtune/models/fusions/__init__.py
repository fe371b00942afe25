"""Fusions: how a model combines pictures and clinical attributes.

A member is built with (features, attributes, parts, options): parts builds its aggregators and heads. Its
forward takes cells_BND, mask_BN and standardised attributes_BA, and returns a BagOutput.
"""
