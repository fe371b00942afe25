"""Combiners: how the members' probabilities become one.

A member is built with (options). `fit(oof_MP, labels_P)` learns from out-of-fold probabilities and returns the
combiner; `predict_proba(probabilities_MP)` returns [P]. The members' order changes nothing, and of one member comes
that member. What is learnt are arrays of float64, named in `learns`, whose names end in their shape's letters and
`_`: they are all that a saved ensemble keeps, and takes back. A combiner that is a weighted mean keeps its weights
[M], which sum to 1, as `weights_M_`. M member trials, P patients.
"""
