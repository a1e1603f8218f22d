"""Validate data: reads the four splits, writes `<data volume>/validation/<id>/report.json` or fails saying why."""
