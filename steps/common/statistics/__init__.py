"""What numbers of images say, and how surely."""
