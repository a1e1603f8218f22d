"""What would help, in sentences: pure functions of numbers that a run measured; reads and writes nothing.

Each returns a finding, also where nothing stands out: then it says what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "advice.json"  # the findings, beside an evaluation
LABELS = "labels"  # what the finding of images that may be mislabelled is about
LISTED = 50  # images of a finding at most
_DEVIATIONS = 2.0  # a difference of fewer standard errors than this may be chance
_FAR = 0.05  # by which training accuracy must be above validation
_CLASS_IMAGES = 5  # fewer say nothing of a class
_CONFUSED_IMAGES = 3  # of a pair of classes; fewer are single mistakes
_CONFUSED_SHARE = 0.02  # of the images of the two classes
_PAIRS = 3
_FEW = 20  # images of a class
_FEW_OF_MEDIAN = 0.2
_COPIES = 0.05  # share of near copies among training images
_SURE = 0.9  # share of labels that agree with neighbours that agree among themselves: with less, labels are not judged
_LONG = 60  # characters of a name in a sentence
_NAMED = 5  # in a sentence; the page and the JSON have more


@dataclass(frozen=True)
class Finding:
    """What was measured of `about`, in words; whether it `helps` to know it, or nothing stands out; and its images."""

    about: str
    helps: bool
    text: str
    images: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Its JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Share:
    """How many of how many images are right."""

    right: int
    images: int

    @property
    def value(self) -> float:
        """The share, from 0 to 1; 0 of none."""
        return self.right / self.images if self.images else 0.0

    @property
    def variance(self) -> float:
        """Of the share, after Agresti & Coull (1998), so that all right is not certainty."""
        share = (self.right + 2) / (self.images + 4)
        return share * (1 - share) / (self.images + 4)

    def __str__(self) -> str:
        return f"{self.value:.1%} of {self.images}"


def training_curve(accuracies: Sequence[float], images: int) -> Finding:
    """Whether the accuracy on validation still rises in the last fifth of the epochs.

    Args:
        accuracies: After each epoch, from 0 to 1.
        images: In the validation split.

    Returns:
        The finding.
    """
    about, epochs = "training curve", len(accuracies)
    if epochs < 2 or not images:
        return Finding(about, False, f"The training curve has {_count(epochs, 'point')}: too few to see where it goes.")
    some = max(1, epochs // 5)
    last, before = (float(np.mean(part)) for part in (accuracies[-some:], accuracies[-2 * some : -some]))
    chance = _DEVIATIONS * Share(round(last * images), images).variance ** 0.5
    says = f"{last:.1%} in the last {_count(some, 'epoch')}, {before:.1%} in the {some} before"
    if last - before > chance:
        return Finding(
            about,
            True,
            f"Train for more epochs than {epochs}: the accuracy on validation still rises at the end, {says}.",
        )
    return Finding(about, False, f"The training curve does not rise at its end: {says}.")


def learning_curve(points: Sequence[tuple[int, Share]]) -> Finding:
    """Whether more images of the same kind would help: whether the last ones did.

    Args:
        points: Training images, and how many validation images are right after training on them; at least two, the
            fewest images first.

    Returns:
        The finding.
    """
    about, ((fewer, before), (images, last)) = "more pictures", points[-2:]
    says = f"from {fewer} to {images} training images the accuracy on validation goes from {before} to {last}"
    if last.value - before.value > _DEVIATIONS * last.variance**0.5:
        return Finding(about, True, f"More pictures would help: {says}.")
    return Finding(about, False, f"More pictures of the same kind would change little: {says}, which may be chance.")


def overfitting(learned: Share, validation: Share, unseen: Mapping[str, Share]) -> Finding:
    """Whether images that were learned get the right label far more often than others do.

    Args:
        learned: Of images that the network learned from, each left out of the gallery.
        validation: Of validation images.
        unseen: Of images that it did not learn from, by class.

    Returns:
        The finding, with the worst classes.
    """
    about = "training and validation"
    if not learned.images or not validation.images:
        return Finding(about, False, "Training and validation are not compared: one of them has no images in this run.")
    says = f"the nearest neighbour is right for {learned} training images and for {validation} validation images"
    gap = learned.value - validation.value
    if gap < _FAR or gap <= _DEVIATIONS * (learned.variance + validation.variance) ** 0.5:
        return Finding(about, False, f"Training is not far above validation: {says}.")
    mean = Share(sum(each.right for each in unseen.values()), sum(each.images for each in unseen.values()))
    below = {label: each for label, each in unseen.items() if each.images >= _CLASS_IMAGES and each.value < mean.value}
    worst = sorted(below, key=lambda label: (below[label].value, label))[:_NAMED]
    named = ", ".join(f"{_quoted(label)} ({below[label]})" for label in worst)
    most = f" The classes that need it most, by images that were not learned: {named}." if worst else ""
    return Finding(about, True, f"More pictures, or more augmentation (`train.*`): {says}.{most}")


def confused_pairs(
    pairs: Sequence[tuple[str, str, int]], images: Mapping[str, int], unknown: str
) -> list[tuple[tuple[str, str], Finding]]:
    """The two classes that are confused most with each other, the next two, and so on.

    Args:
        pairs: True label, another label that was the answer, and how many images.
        images: Test images of each class.
        unknown: The answer that is no class.

    Returns:
        At most three pairs of classes, each with its finding; in a pair the class that is mistaken more often is first.
    """
    counts = {(true, answer): count for true, answer, count in pairs if unknown not in (true, answer)}
    both = {
        (true, answer): count + counts.get((answer, true), 0)
        for (true, answer), count in counts.items()
        if (count, answer) > (counts.get((answer, true), 0), true)
    }
    many = {
        pair: count
        for pair, count in both.items()
        if count >= _CONFUSED_IMAGES and count >= _CONFUSED_SHARE * sum(images.get(label, 0) for label in pair)
    }
    found = []
    for one, other in sorted(many, key=lambda pair: (-many[pair], pair))[:_PAIRS]:
        there, back = counts[one, other], counts.get((other, one), 0)
        says = f"{there} of {_count(images.get(one, 0), 'test image')} of {_quoted(one)} are answered {_quoted(other)}"
        if back:
            says += f", and {back} of {images.get(other, 0)} the other way"
            way = "are taken for each other"
        else:
            says += ", none the other way"
            way = "are confused in one direction"
        text = (
            f"More pictures that tell {_quoted(one)} from {_quoted(other)}, or a look at their labels: the two {way}. "
            f"{says[0].upper()}{says[1:]}."
        )
        found.append(((one, other), Finding("confused classes", True, text)))
    return found


def mislabelled(suspects: Sequence[dict[str, Any]], looked_at: int, images: int, agreeing: Share) -> Finding:
    """Images whose neighbours agree on another label.

    Args:
        suspects: Their `name`, `split`, `label` and the `neighbours` label, the worst first.
        looked_at: Images that were looked at.
        images: Images of all splits.
        agreeing: Of images whose neighbours agree on a label, those that have this label.

    Returns:
        The finding. With neighbours that are wrong too often nothing is said of labels.
    """
    about = LABELS
    of = f"{images} images" if looked_at == images else f"{looked_at} images looked at, out of {images}"
    if agreeing.images < _CLASS_IMAGES or agreeing.value < _SURE:
        text = (
            "Labels are not judged: neighbours that agree on a label must be right for "
            f"{_SURE:.0%} of images, and are for {agreeing}."
        )
        return Finding(about, False, text)
    if not suspects:
        return Finding(about, False, f"No label looks wrong: of {of} none lies among those of another label.")
    named = ", ".join(_suspect(each) for each in suspects[:_NAMED])
    more = f", and {len(suspects) - _NAMED} more" if len(suspects) > _NAMED else ""
    text = (
        f"Look at the labels of {len(suspects)} of {of}: they lie among images of another label. "
        f"The worst first: {named}{more}."
    )
    return Finding(about, True, text, list(suspects[:LISTED]))


def _suspect(one: Mapping[str, Any]) -> str:
    return f"{_quoted(one['name'])} ({_quoted(one['label'])}, neighbours {_quoted(one['neighbours'])})"


def near_copies(images: int, copies: int, groups: int, largest: int) -> Finding:
    """How many training images are near copies of others.

    Args:
        images: Training images.
        copies: Those of them that are in groups of near copies, but for the first of each group.
        groups: Groups of near copies.
        largest: Images in the largest group.

    Returns:
        The finding.
    """
    about = "near copies"
    says = f"{copies} of {_count(images, 'training image')} are near copies of others"
    if not copies or copies < _COPIES * images:
        return Finding(about, False, f"Near copies are few: {says}.")
    text = f"Other pictures in place of near copies: {says}, in {_count(groups, 'group')} of up to {largest} images."
    return Finding(about, True, text)


def copies_across(suspects: Sequence[Sequence[tuple[str, str]]]) -> Finding:
    """Near copies with different labels, of which at most one can be right.

    Args:
        suspects: Of each such group the name and the label of an image of each class.

    Returns:
        The finding.
    """
    about = "labels of near copies"
    if not suspects:
        return Finding(about, False, "No near copies have different labels.")
    named = "; ".join(
        ", ".join(f"{_quoted(name)} ({_quoted(label)})" for name, label in group) for group in suspects[:_NAMED]
    )
    more = f"; and {len(suspects) - _NAMED} more" if len(suspects) > _NAMED else ""
    text = f"One label for near copies: {_count(len(suspects), 'group')} have several. {named}{more}."
    listed = [{"name": name, "label": label} for group in suspects[:LISTED] for name, label in group]
    return Finding(about, True, text, listed)


def few_images(counts: Mapping[str, int], unseen: Mapping[str, Share]) -> Finding:
    """Classes with few training images, and how accurate they are beside the others.

    Args:
        counts: Training images of each class.
        unseen: Of images that were not learned, by class.

    Returns:
        The finding.
    """
    about = "few images"
    if not counts:
        return Finding(about, False, "The training split has no class.")
    median = float(np.median(list(counts.values())))
    limit = max(_FEW, _FEW_OF_MEDIAN * median)
    few = sorted((label for label, count in counts.items() if count < limit), key=lambda label: (counts[label], label))
    if not few:
        least = min(counts, key=lambda label: (counts[label], label))
        return Finding(
            about, False, f"No class has few images: the smallest, {_quoted(least)}, has {counts[least]} to train on."
        )
    named = ", ".join(f"{_quoted(label)} ({counts[label]})" for label in few[:_NAMED])
    more = f", and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    text = (
        f"More pictures of classes with few: {_count(len(few), 'class')} of {len(counts)} "
        f"{'has' if len(few) == 1 else 'have'} fewer than {limit:.0f} to train on: {named}{more}."
    )
    theirs, others = _together(unseen, few), _together(unseen, counts.keys() - set(few))
    if theirs.images and others.images:
        text += f" Of images that were not learned, {theirs} of these classes are right, and {others} of the others."
    return Finding(about, True, text)


def _together(shares: Mapping[str, Share], labels: Any) -> Share:
    found = [shares[label] for label in labels if label in shares]
    return Share(sum(each.right for each in found), sum(each.images for each in found))


def _quoted(text: str) -> str:
    """A name or label in quotes, of which a long one lacks its middle."""
    return repr(text if len(text) <= _LONG else f"{text[: _LONG // 3]}…{text[-_LONG // 3 * 2 :]}")


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def by_class(labels: Sequence[str], right: NDArray[np.bool_]) -> dict[str, Share]:
    """How many images of each label are right."""
    found: dict[str, list[int]] = {}
    for label, one in zip(labels, right.tolist(), strict=True):
        tally = found.setdefault(label, [0, 0])
        tally[0] += one
        tally[1] += 1
    return {label: Share(*tally) for label, tally in found.items()}
