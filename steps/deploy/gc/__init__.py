"""What is on the volumes and why, and the removal of what nothing needs any more: `make gc`."""
