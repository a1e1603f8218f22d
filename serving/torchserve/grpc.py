"""Takes management from TorchServe's gRPC: one class of its jar, a service changed.

gRPC always listens, on ports of loopback, where whoever is on the machine could remove the model or register another.
With the class changed both ports answer predictions alone, and management is left to the socket that launch.py chooses.
"""

from serving.torchserve.class_patch import ChangedClass, constant

SERVICES = ChangedClass(
    "org/pytorch/serve/grpcimpl/GRPCServiceFactory.class",
    "861b6fe0f5e128fd28731d85ec35aa9190809d1c343b417024201ca4fab5da5f",
    {constant("org/pytorch/serve/grpcimpl/ManagementImpl"): constant("org/pytorch/serve/grpcimpl/InferenceImpl")},
)
