"""A Kubeflow Pipelines server: compiles the pipeline for it, submits, follows, schedules and checks runs."""
