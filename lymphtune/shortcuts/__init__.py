"""What a network may learn in place of the disease: properties that tell the label alone, and shifts of pictures."""
