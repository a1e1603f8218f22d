"""Training as a TrainJob of Kubeflow Trainer: creates it, relays what its first process says, ends as it ends."""
