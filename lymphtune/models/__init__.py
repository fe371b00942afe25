"""Models: networks over bags of cells, and clinical models on the clinical attributes."""
