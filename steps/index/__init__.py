"""Train FAISS: reads embeddings, writes `<model volume>/index/<id>/`."""
