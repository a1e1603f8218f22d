"""The report of a verdict: one HTML file with three pages, data, model and lineage, and a short one in Markdown."""
