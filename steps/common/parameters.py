"""Gives a step's parameters the types that its signature names: kfp carries every number of a dict as a float."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError, validate_call

from steps.common.errors import StepError

P = ParamSpec("P")
R = TypeVar("R")


def typed(step: Callable[P, R]) -> Callable[P, R]:
    """Check and convert the arguments of a step.

    Args:
        step: The step's function.

    Returns:
        The function, which raises a StepError that names each argument that is wrong, unknown or missing.
    """
    checked = validate_call(step)

    @wraps(step)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return checked(*args, **kwargs)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}{_found(e)}" for e in error.errors())
            raise StepError(f"the parameters of {step.__name__} are wrong: {problems}") from error

    return call


def _found(problem: Any) -> str:
    return "" if problem["type"].startswith("missing") else f", is {problem['input']!r}"
