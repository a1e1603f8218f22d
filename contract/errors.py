"""The errors that a command reports to its user: one sentence on stderr, and an exit status."""


class ProjectError(Exception):
    """Something failed. The message says the rule, the value found and what to do.

    Every error of the project with a message for the user derives from this class. `exit_status` is the exit status
    of a command that ends with it.
    """

    exit_status = 1


class InputError(ProjectError):
    """The input, the settings or the environment is wrong, so nothing was started."""

    exit_status = 2
