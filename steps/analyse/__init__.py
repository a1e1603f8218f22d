"""Analysis: scores network and index on the test split, writes a verdict and a report to the model volume."""

from steps.analyse.analyse import Analysis, analyse

__all__ = ["Analysis", "analyse"]
