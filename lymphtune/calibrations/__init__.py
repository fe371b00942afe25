"""Calibrations: the averaged probabilities made to mean what they say, for two classes of the same weight.

A member is built with (options) and has `least_patients`, under which it is refused. `fit(probabilities_P, labels_P)`
learns from out-of-fold probabilities and returns the calibration; `apply(probabilities_P)` returns [P], in the same
order as they came in. What is learnt are arrays of float64 [up to P], named in `learns`, whose names end in `_`.
P patients.
"""
