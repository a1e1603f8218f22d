"""What steps share: the content-addressed store, digests, volumes, progress, images and networks."""
