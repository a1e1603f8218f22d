"""What would help: findings about data and training, measured in this run. They are shown, and decide nothing."""
