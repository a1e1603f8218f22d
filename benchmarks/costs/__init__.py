"""What a run costs by the number and the size of its images: measured constants, formulas, and the tables of a page."""
