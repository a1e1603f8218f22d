"""Collecting: the limits of the store of images that the server keeps, and the thread that holds it to them."""
