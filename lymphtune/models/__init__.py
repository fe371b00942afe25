"""What is trained: networks over bags of cells, and clinical models on age and lymphocyte count."""
