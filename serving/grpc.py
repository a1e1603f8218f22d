"""Takes management from TorchServe's gRPC: writes one class of its jar anew, a service changed.

gRPC always listens, on ports of loopback, where whoever is on the machine could remove the model or register another.
With the class changed both ports answer predictions alone, and management is left to the socket that launch.py chooses.
"""

from pathlib import Path

from serving.classes import constant, write_changed

CLASS = "org/pytorch/serve/grpcimpl/GRPCServiceFactory.class"

_SHA256 = "861b6fe0f5e128fd28731d85ec35aa9190809d1c343b417024201ca4fab5da5f"
CHANGES = {
    constant("org/pytorch/serve/grpcimpl/ManagementImpl"): constant("org/pytorch/serve/grpcimpl/InferenceImpl"),
}


def write_class(jar: Path, folder: Path) -> None:
    """Write the class below `folder`."""
    write_changed(jar, folder, CLASS, _SHA256, CHANGES)
