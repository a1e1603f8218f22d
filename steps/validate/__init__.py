"""Validate data: reads the four splits, writes `<data volume>/validation/<id>/report.json` or fails saying why."""

from steps.validate.validate import validate

__all__ = ["validate"]
