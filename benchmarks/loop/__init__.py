"""Measurements of what brings served images back as data."""
