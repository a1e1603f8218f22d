"""The seven steps of the pipeline, a folder each; they know files and numbers, neither kfp nor Kubernetes."""
