"""Combiners: how the members' probabilities become one.

A member is built with (options). `fit(oof_MP, labels_P)` learns from out-of-fold probabilities and returns the
combiner; `predict_proba(probabilities_MP)` returns [P]. The members' order changes nothing, and of one member comes
that member. What is learnt are arrays whose names end in `_`: they are all that a saved ensemble keeps. A combiner
that is a weighted mean keeps its weights [M], which sum to 1, as `weights_M_`. M member trials, P patients.
"""
