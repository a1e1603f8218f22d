"""Gives a step's parameters the types that its signature names: kfp carries every number of a dict as a float."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pydantic import ValidationError, validate_call

from steps.common.errors import StepError

P = ParamSpec("P")
R = TypeVar("R")


def typed(step: Callable[P, R]) -> Callable[P, R]:
    """Check and convert a step's arguments; StepError names each that is wrong, unknown or missing."""
    checked = validate_call(step)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return checked(*args, **kwargs)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (is {e['input']!r})" for e in error.errors()]
            raise StepError(f"{step.__name__}: {'; '.join(problems)}") from error

    return call
