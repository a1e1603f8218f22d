"""The name of serving's objects on Kubernetes, which infra/torchserve, pipeline and the step deploy share."""

# Of the container; and, after the project's `kubeflow.name_prefix`, of the Deployment and its Service.
SERVING = "torchserve"
