"""What of the project's code decides a result, and the digest of it."""
