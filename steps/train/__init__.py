"""Train model: reads the splits `train` and `validation`, writes `<model volume>/network/<id>/`."""
