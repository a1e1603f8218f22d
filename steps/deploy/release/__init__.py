"""Which version is served: the switch to one, its rollout in a cluster, the audit log, and going back."""
