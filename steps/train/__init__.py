"""Train model: reads the splits `train` and `validation`, writes `<model volume>/network/<id>/`."""

from steps.train.train import train

__all__ = ["train"]
