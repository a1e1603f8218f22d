"""What the README and the closing notes quote: measured side by side in one run, never asserted as a time."""
