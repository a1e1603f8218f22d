"""What serving needs of the machine: processes that end together, and private folders that stay."""
