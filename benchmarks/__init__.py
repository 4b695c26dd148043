"""Measurements. Each prints a floor of the same run beside it, so that a number means the same on any machine."""
