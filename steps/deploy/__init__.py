"""Deploy: archives a model that passed the gate, proves it in TorchServe, and points the deploy volume at it."""
