"""Clinical models: scikit-learn on standardised age and log count; baselines and ensemble members.

A member is a function of (options, seed) that returns an unfitted classifier with `predict_proba`, whose
`fit` takes `sample_weight`.
"""
