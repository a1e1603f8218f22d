"""The code of the model archive, run by TorchServe's worker; it imports nothing of this project."""
