"""Collecting: what holds the store of images that the server keeps to its limits, and the commands that show it."""
