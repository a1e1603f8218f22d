"""The seven steps of the pipeline, a folder each; they know files and numbers, neither kfp nor Kubernetes."""

import os

# Threads that wait sleep instead of spinning: two trainings on one machine's cores would stop each other for minutes.
# OpenMP reads it once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
