"""TorchServe for the model that the pointer names: `python -m serving start` serves it, `predict` asks it."""
