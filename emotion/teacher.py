"""Distillation (Hinton, Vinyals, Dean 2015): what trained networks make of the training images, as soft targets.

The teacher FERPLUS_TEACHER is no network: it sees the ten FER+ votes of an image instead of the image, and says which
label FER-2013 gives to images voted on like that (privileged information: Lopez-Paz et al. 2016). It tells 66.8 % of
PublicTest's labels, nearly as many as a network, and the mean of both tells more than either, 71 %.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from emotion.config import FERPLUS_TEACHER, TrainConfig
from emotion.data import FerSplit
from emotion.errors import WeightsError
from emotion.views import probabilities

VOTERS = 10
"""People who named the emotion of each FER+ image."""


def taught_targets(
    split: FerSplit, targets: torch.Tensor, votes: npt.NDArray[np.float32], config: TrainConfig
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Targets float32 [N, C] of the labels and `config.teacher` together, and the teachers' identities.

    split: images, and labels that are columns of `config.classes`. targets: int64 [N] or float32 [N, C], what the
    labels say. votes: float32 [N, 8], FER+ shares. A network sees an image and its mirror image once, before training,
    and its logits are averaged; the loss being linear in the targets, the mean of the losses with labels and teachers
    is the loss with the mean. Raises WeightsError for a teacher that cannot be read or does not know a class.
    """
    images = split.images
    shares = np.zeros((len(images), len(config.classes)), np.float32)
    identities = []
    for name in config.teacher:
        if name == FERPLUS_TEACHER:
            found, identity = _label_of_votes(votes, split.labels, len(config.classes)), name
        else:
            found, identity = _shares(name, images, config.classes)
        shares += found / np.float32(len(config.teacher))
        identities.append(identity)
    labelled = targets if targets.is_floating_point() else torch.nn.functional.one_hot(targets, len(config.classes))
    mixed = torch.lerp(labelled.float(), torch.from_numpy(shares), config.distill_weight)
    return mixed, tuple(identities)


def _label_of_votes(
    votes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.float32]:
    """float32 [N, C]: how often images with such votes have each label; images without votes keep their own."""
    from sklearn.linear_model import LogisticRegression

    shares = np.eye(classes, dtype=np.float32)[labels]
    voted = votes.any(1)
    if len(np.unique(labels[voted])) > 1:
        seen = np.log(votes[voted] * VOTERS + 0.5)
        model = LogisticRegression(max_iter=2000).fit(seen, labels[voted])
        shares[np.ix_(voted, model.classes_)] = model.predict_proba(seen)
    return shares


def _shares(name: str, images: npt.NDArray[np.uint8], classes: tuple[str, ...]) -> tuple[npt.NDArray[np.float32], str]:
    """One teacher's probabilities float32 [N, C] over `classes`, after its own temperature, and its identity."""
    from emotion.evaluate import load_scorer

    scorer = load_scorer(name)
    missing = [label for label in classes if label not in scorer.card.labels]
    if missing:
        raise WeightsError(f"teacher {name}: knows {', '.join(scorer.card.labels)}: expected also {', '.join(missing)}")
    columns = [scorer.card.labels.index(label) for label in classes]
    logits = scorer.logits(images, test_time="flip")[:, columns]
    return probabilities(logits, temperature=scorer.card.temperature), scorer.identity
