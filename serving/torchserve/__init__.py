"""TorchServe: its configuration, start, management, and patches of classes in its jar."""
