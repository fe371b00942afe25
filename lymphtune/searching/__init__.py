"""Searching: many trials on Ray, the weak ones stopped early, every result kept."""
