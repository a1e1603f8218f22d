"""Reports how a run ended to a webhook, for the pipeline's exit handler."""

from steps.report.report import report

__all__ = ["report"]
