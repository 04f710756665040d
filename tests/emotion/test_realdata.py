"""FER-2013 itself and the shipped weights, where CROWDMOOD_DATASETS names the folder that holds fer2013/."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from emotion import load_classifier, shipped_classifiers
from emotion.data import FerSplit, count_report, drop_duplicates, load_fer2013, load_ferplus_votes
from emotion.evaluate import evaluate, predict
from emotion.robustness import CHANGES, robustness

ROOT = os.environ.get("CROWDMOOD_DATASETS")
pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not ROOT, reason="CROWDMOOD_DATASETS is not set")]
FOLDER = Path(ROOT or ".") / "fer2013"


@pytest.fixture(scope="module")
def public() -> FerSplit:
    return load_fer2013(FOLDER / "archive.zip", "public")


def test_counts_are_official(public: FerSplit) -> None:
    train = load_fer2013(FOLDER / "archive.zip", "train")
    assert [count_report("train", train), count_report("public", public)] == [None, None]
    kept, dropped = drop_duplicates(train, public)
    assert (len(kept), dropped) == (28_358, 351)


def test_csv_and_archive_show_the_same_kind_of_faces(public: FerSplit) -> None:
    head = load_fer2013(FOLDER / "fer2013_head.csv", "public")
    assert len(head) == 50
    assert abs(float(head.images.mean()) - float(public.images.mean())) < 15


def test_most_images_have_ferplus_votes(public: FerSplit) -> None:
    votes = load_ferplus_votes(FOLDER / "ferplus_votes.csv", public.names)
    assert (votes.sum(1) > 0).mean() > 0.95


@pytest.mark.skipif("default" not in shipped_classifiers(), reason="no weights are shipped yet")
def test_shipped_weights_reach_their_figure(public: FerSplit) -> None:
    classifier = load_classifier("default")
    figures = evaluate(predict(classifier, public), classifier.identity, split="public")
    card = (resources.files("emotion") / "weights" / "default.md").read_text(encoding="utf-8")
    said = re.search(r"\| accuracy \| ([0-9.]+) \|", card)
    assert said is not None
    assert figures.accuracy == pytest.approx(float(said[1]), abs=0.003)
    assert figures.ece_after < 0.05


@pytest.mark.slow
@pytest.mark.skipif("default" not in shipped_classifiers(), reason="no weights are shipped yet")
def test_shipped_weights_bear_a_box_that_is_off_by_a_tenth(public: FerSplit) -> None:
    some = public.subset(np.arange(len(public)) % 4 == 0)
    rows = {row.change: row for row in robustness(load_classifier("default"), some)}
    assert set(rows) == {"none", *CHANGES}
    assert rows["box shifted by 10 %"].difference > -0.05
    assert rows["box scaled by 10 %"].difference > -0.05
