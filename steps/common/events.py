"""What a step tells whoever watches: writes one JSON object a line to standard output.

In Kubernetes these lines are the pod's log; on one machine the pipeline's command turns them into progress bars
and the closing table.
"""

import json
from typing import Any


def event(kind: str, **fields: Any) -> None:
    """Write one event."""
    print(json.dumps({"event": kind, **fields}), flush=True)
