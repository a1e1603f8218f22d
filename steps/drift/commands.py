"""What the command line within the cluster calls."""

from argparse import Namespace
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from contract.errors import InputError
from contract.loop.drift import Word
from steps.drift.measure import keep, measure
from steps.drift.parameters import Drift
from steps.drift.retrain import Server, start_run, token_of
from steps.drift.sample import EMPTY


def check(options: Namespace) -> int:
    """Compare, print word and reason, and start a run if the word is retrain."""
    found = measure(_parameters(options), lambda _: EMPTY)  # the metrics of one pod say too little of all
    print(f"{found.comparison.word}: {found.comparison.why} (version {found.record.version})", flush=True)
    keep(found)
    if found.comparison.word is Word.RETRAIN and options.host:
        server = Server(options.host, token_of(options.token_file), options.namespace or None)
        cooldown = timedelta(hours=options.cooldown_hours)
        print(start_run(server, options.experiment, cooldown, datetime.now(UTC)), flush=True)
    return 0


def _parameters(options: Namespace) -> Drift:
    given = {name: value for name in Drift.model_fields if (value := getattr(options, name)) is not None}
    try:
        return Drift.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        flag = str(problem["loc"][0]).replace("_", "-")
        raise InputError(f"--{flag} is {problem['input']!r}: {problem['msg'].lower()}") from None
