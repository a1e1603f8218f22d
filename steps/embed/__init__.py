"""Embedding: reads the gallery split and a network, writes `<model volume>/embeddings/<id>/`."""
