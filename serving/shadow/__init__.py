"""Shadowing: a new version gets copies of the live requests before it answers any."""
