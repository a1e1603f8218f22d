"""Analysis: scores network and index on the test split, writes a verdict and a report to the model volume."""
