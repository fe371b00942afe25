"""Training of one configuration on all its folds, epoch by epoch."""
