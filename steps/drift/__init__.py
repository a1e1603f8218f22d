"""Drift: compares what is served with what analyse saw on test."""
