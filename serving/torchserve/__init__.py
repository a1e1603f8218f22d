"""TorchServe itself: its configuration, its start, its management, and the classes of its jar that are changed."""
