"""What travels in the model archive and runs in TorchServe's worker; imports nothing of this project."""
