"""What each image should be called: FER+ votes and whether they belong to the images, class weights, drawing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion import EMOTIONS, DataError
from emotion.presets import KERAS
from emotion.targets import drawing_order, training_set
from emotion.train import load_splits
from tests.emotion.factories import FERPLUS, make_split, write_csv, write_microsofts_votes, write_votes

TINY = dataclasses.replace(KERAS, model="mini_xception", batch_size=7)


def test_ferplus_targets(tmp_path: Path) -> None:
    split = make_split(3, 1)
    votes = write_votes(tmp_path / "votes.csv", split.names, [FERPLUS[k] for k in split.labels])
    soft = training_set(split, dataclasses.replace(TINY, labels="ferplus"), votes)
    happy = int((soft.labels == EMOTIONS.index("happy")).nonzero()[0])
    expected = torch.zeros(7)
    expected[[EMOTIONS.index("happy"), EMOTIONS.index("neutral")]] = torch.tensor([0.9, 0.1])
    assert torch.allclose(soft.targets[happy], expected)
    sad = dataclasses.replace(split, labels=np.full(len(split), EMOTIONS.index("sad")))
    both = training_set(sad, dataclasses.replace(TINY, labels="ferplus-both"), votes)
    assert both.targets[happy, EMOTIONS.index("happy")] == pytest.approx(0.95), "by the votes alone"
    majority = training_set(split, dataclasses.replace(TINY, labels="ferplus-majority"), votes)
    assert torch.equal(majority.targets, torch.from_numpy(split.labels))


def test_votes_of_other_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = make_split(3, 1)
    config = dataclasses.replace(TINY, labels="ferplus")
    with pytest.raises(DataError, match=r"a\.csv: no votes for any of the 21 training images, such as 'x/angry/"):
        training_set(split, config, write_votes(tmp_path / "a.csv", ("line 2",), ["anger"]))
    training_set(split, config, write_votes(tmp_path / "b.csv", split.names[:18], ["anger"] * 18))
    assert [record.getMessage() for record in caplog.records] == [
        f"note: {tmp_path / 'b.csv'} has votes for 18 of 21 training images (86 %)"
    ]
    caplog.clear()
    training_set(split, config, write_votes(tmp_path / "c.csv", split.names[:19], ["anger"] * 19))
    assert not caplog.records


def test_votes_that_contradict_the_labels(tmp_path: Path) -> None:
    split, config = make_split(15), dataclasses.replace(TINY, labels="ferplus")

    def votes_of_share(agreeing: float) -> Path:
        winners = [FERPLUS[k if i % 10 < 10 * agreeing else (k + 1) % 7] for i, k in enumerate(split.labels)]
        return write_votes(tmp_path / f"{agreeing}.csv", split.names, winners)

    assert len(training_set(split, config, votes_of_share(0.5))) == 105
    with pytest.raises(DataError, match=r"0\.2\.csv: only 21 % of the training images have the label that most votes"):
        training_set(split, config, votes_of_share(0.2))


def test_lost_lines_of_training_show_in_the_votes_of_publictest(tmp_path: Path) -> None:
    train, public = make_split(3, 1), make_split(2, 2)
    winners = [FERPLUS[k] for k in (*train.labels, *public.labels)]
    usages = ["Training"] * len(train) + ["PublicTest"] * len(public)
    votes = write_microsofts_votes(tmp_path / "fer2013new.csv", winners, usages)
    fewer = train.subset(np.arange(len(train)) != 20)
    path = write_csv(tmp_path / "fer2013.csv", {"train": fewer, "public": public})
    with pytest.raises(DataError, match=r"csv:22: Usage 'Training', but 'PublicTest'"):
        load_splits(dataclasses.replace(TINY, ferplus_weight=0.5), path, votes)


def test_balance() -> None:
    split = make_split(4).subset(np.arange(28) != 0).subset(np.r_[False, np.ones(26, bool)])
    weighted = training_set(split, dataclasses.replace(TINY, balance="weights"), None)
    assert weighted.class_weights is not None
    assert weighted.class_weights[0] == pytest.approx(2 * float(weighted.class_weights[1]))
    config = dataclasses.replace(TINY, balance="sampling")
    drawn = torch.cat([drawing_order(weighted, config, torch.Generator().manual_seed(seed)) for seed in range(80)])
    shares = torch.bincount(weighted.labels[drawn], minlength=7) / len(drawn)
    assert shares.tolist() == pytest.approx([1 / 7] * 7, abs=0.03)
    plain = drawing_order(weighted, TINY, torch.Generator().manual_seed(0))
    assert sorted(plain.tolist()) == list(range(26))
