"""Measures what a first run on a folder of own images reaches, with `auto` for all that follows from the data."""
