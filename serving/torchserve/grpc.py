"""Patch of TorchServe's GRPCServiceFactory: no management over gRPC.

TorchServe always listens for gRPC, on ports of the loopback address, where any process of the machine could remove the
model or register another. Patched, both gRPC ports answer predictions only; management is at the address in launch.py.
"""

from serving.torchserve.class_patch import ClassPatch, constant

SERVICES = ClassPatch(
    "org/pytorch/serve/grpcimpl/GRPCServiceFactory.class",
    "861b6fe0f5e128fd28731d85ec35aa9190809d1c343b417024201ca4fab5da5f",
    {constant("org/pytorch/serve/grpcimpl/ManagementImpl"): constant("org/pytorch/serve/grpcimpl/InferenceImpl")},
)
