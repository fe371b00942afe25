"""What a number is worth: metrics over many models and resamples at once, and their intervals."""
