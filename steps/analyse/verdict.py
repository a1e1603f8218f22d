"""The gate's decision, from numbers alone. Reads and writes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from contract.events import Verdict


@dataclass(frozen=True)
class Score:
    """A model's accuracies on the test split: shares from 0 to 1, or None if there is none."""

    accuracy: float | None
    per_class: Mapping[str, float | None]


def judge(
    challenger: Score,
    champion: Score | None,
    *,
    baseline: float,
    worst_class_floor: float,
    is_champion: bool = False,
    rolled_back: str | None = None,
) -> Verdict:
    """Decide whether a model is to be deployed.

    It is better if its accuracy is above the baseline, its worst class is not below the floor, and its accuracy is
    above the champion's. A number that is missing, NaN or not a share counts as 0, and never deploys.

    Args:
        challenger: The new model's score.
        champion: The score of the model now served, on the same test split; None if there is none.
        baseline: Accuracy must be above this.
        worst_class_floor: The accuracy of the worst class must not be below this.
        is_champion: The new model is the one now served, so it need not be better than itself.
        rolled_back: Why this model was rolled back, which keeps it from being deployed; None if it was not.

    Returns:
        The verdict.
    """
    accuracy = _share(challenger.accuracy)
    shares = {label: _share(share) for label, share in challenger.per_class.items()}
    worst = min(shares, key=lambda label: shares[label] or 0.0) if shares else None
    worst_accuracy = (shares[worst] or 0.0) if worst is not None else 0.0
    rejection = None
    if accuracy is None:
        rejection = f"accuracy is {challenger.accuracy}, which is not a share from 0 to 1"
    elif accuracy <= baseline:
        rejection = f"accuracy {accuracy:.4f} is not above the baseline {baseline:.4f}"
    elif worst is None or worst_accuracy < worst_class_floor:
        rejection = f"class {worst!r} has accuracy {worst_accuracy:.4f}, below the floor {worst_class_floor:.4f}"
    elif champion and not is_champion and accuracy <= (_share(champion.accuracy) or 0.0):
        rejection = f"accuracy {accuracy:.4f} is not better than the champion's {_share(champion.accuracy) or 0.0:.4f}"
    elif rolled_back:
        rejection = f"accuracy {accuracy:.4f}, but {rolled_back}"
    if rejection:
        reason = rejection
    elif is_champion:
        reason = f"accuracy {accuracy:.4f}; its network and index are those served already"
    elif champion:
        reason = f"accuracy {accuracy:.4f} beats the champion's {_share(champion.accuracy) or 0.0:.4f}"
    else:
        reason = f"accuracy {accuracy:.4f} is above the baseline {baseline:.4f}; there was no champion"
    return Verdict(
        accuracy=accuracy or 0.0,
        worst_label=worst,
        worst_accuracy=worst_accuracy,
        better=rejection is None,
        reason=reason,
    )


def _share(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and 0 <= value <= 1 else None
