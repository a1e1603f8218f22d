"""The door: nginx before TorchServe, its configuration, start, log and end."""
