"""Releases: the journal, the switch to another version, its rollout in a cluster, and the rollback."""
