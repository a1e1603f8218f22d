"""What ends an installation, in one sentence: the rule, what was found, what to do."""


class InstallError(Exception):
    """Nothing can be installed here until somebody does what the sentence says."""
