"""Runs the pipeline on this machine: as processes or in containers, with progress and the closing table."""
