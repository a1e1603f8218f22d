"""Images: files decoded to pixels, pixels encoded as PNG, and the splits of a dataset."""
