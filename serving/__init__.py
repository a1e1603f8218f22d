"""Serving: `python -m serving start` serves the model that the pointer names with TorchServe, `predict` asks it."""
