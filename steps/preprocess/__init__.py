"""Collect and preprocess data: reads a source, writes four splits to `<data volume>/dataset/<id>/`."""
