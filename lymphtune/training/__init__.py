"""Training one configuration on all its folds, epoch by epoch, side by side."""
