"""The steps of the pipeline, a folder each. They use neither kfp nor, but for the rollout of deploy, Kubernetes."""

import os

# Waiting threads sleep instead of spinning, since the spinning threads of two trainings on one machine block each other
# for minutes. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
