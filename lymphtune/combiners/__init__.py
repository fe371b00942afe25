"""Combiners: how the members' probabilities become one.

A member is built with (options). `fit(oof_MP, labels_P)` learns from out-of-fold probabilities and returns the
combiner; `predict_proba(probabilities_MP)` returns [P]. M member trials, P patients.
"""
