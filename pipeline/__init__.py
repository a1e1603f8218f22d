"""The pipeline: its graph, where it runs, and the command line."""
