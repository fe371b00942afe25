"""Where a search reports its trials besides its own folder: TensorBoard files, MLflow, Weights & Biases."""
