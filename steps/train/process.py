"""One process of a TrainJob: the first one makes the network and stores it, the others train with it."""

from argparse import Namespace

from contract.environment import Environment
from contract.events import Failed, emit
from steps.common.errors import StepError
from steps.common.files import readable_by_all
from steps.train.fit import fit, handed_over, joined
from steps.train.parameters import Train
from steps.train.train import STEP, network_of


def network(options: Namespace) -> int:
    """Train, and let the step that follows the job know an error that a restart would only repeat."""
    roles = ("train", "validation", "weights")
    inputs = {role: id for role in roles if (id := getattr(options, role))}
    parameters = Train.model_validate_json(options.parameters)
    try:
        with readable_by_all(), joined():
            if Environment().rank > 0:
                if job := handed_over(None):
                    fit(job)
            elif network_of(parameters, inputs).unchanged:
                handed_over(None)  # what the others wait for
    except StepError as error:
        emit(Failed(str(error), STEP))
        raise
    return 0
