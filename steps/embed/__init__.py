"""Embedding: reads the gallery split and a network, writes `<model volume>/embeddings/<id>/`."""

from steps.embed.embed import embed

__all__ = ["embed"]
