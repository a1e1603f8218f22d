"""Runs the pipeline on this machine: as processes or in containers, with progress and the closing table.

kfp 2.17.0 imports its client with all of Kubernetes' and Google's, 0.2 seconds of processor, unless it is told that it
runs a step. Nothing here asks a server, so it is told so while it is imported, and no longer.
"""

import os
from unittest import mock

with mock.patch.dict(os.environ, {"_KFP_RUNTIME": "true"}):
    import kfp  # noqa: F401 - `from kfp import dsl` is the whole of it again
