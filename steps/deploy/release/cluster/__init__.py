"""The cluster's half of a switch: the Deployment and its pods, the rollout, and the questions to the Service."""
