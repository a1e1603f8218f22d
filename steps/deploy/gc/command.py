"""The command `gc`: shows what nothing needs any more, and deletes it if told to."""

import contextlib
import sys

from steps.common.errors import StepError
from steps.common.volumes import data_volume, deploy_volume, model_volume
from steps.deploy.gc.delete import delete
from steps.deploy.gc.plan import plan
from steps.deploy.gc.report import as_json as json_of
from steps.deploy.gc.report import as_text


def gc(keep_days: int, *, yes: bool, as_json: bool) -> str:
    """Show, or delete, what no version and no run of the last days needs.

    Args:
        keep_days: `gc.keep_days` of `params.yaml`.
        yes: Delete it; without, nothing is changed.
        as_json: Give JSON, with every item.

    Returns:
        What is to be printed.

    Raises:
        StepError: The days are fewer than one; or there are no volumes; or nobody knows what is needed.
    """
    if keep_days < 1:
        raise StepError(
            f"gc keeps what runs of the last days used, and {keep_days} is no number of days: 1 is the least"
        )
    volumes = (data_volume(), model_volume(), deploy_volume())
    if missing := [str(volume) for volume in volumes if not volume.is_dir()]:
        raise StepError(f"{', '.join(missing)} is missing: choose the volumes with VOLUMES=folder")
    with contextlib.redirect_stdout(sys.stderr):  # that it waits for another run is not the answer
        made = delete(keep_days) if yes else plan(keep_days)
    return json_of(made, keep_days, done=yes) if as_json else as_text(made, done=yes)
