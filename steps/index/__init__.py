"""Train FAISS: reads embeddings, writes `<model volume>/index/<id>/`."""

from steps.index.index import index

__all__ = ["index"]
