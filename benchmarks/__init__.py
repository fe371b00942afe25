"""Measurements; a package, because pyarrow up to 17 installs one of the same name that would be found first."""
