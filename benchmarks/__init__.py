"""Measurements for README.md here. Figures to be compared come from one run; no test asserts a time."""
