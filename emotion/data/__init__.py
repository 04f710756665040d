"""Readers of FER-2013 and FER+."""

from emotion.data.fer2013 import (
    FerSplit,
    count_report,
    drop_duplicates,
    load_fer2013,
    load_split_if_any,
    load_training,
)
from emotion.data.ferplus import (
    FERPLUS_CLASSES,
    ferplus_majority,
    ferplus_relabelled,
    load_ferplus_votes,
    votes_of,
)
from emotion.data.near_copies import near_copies

__all__ = [
    "FERPLUS_CLASSES",
    "FerSplit",
    "count_report",
    "drop_duplicates",
    "ferplus_majority",
    "ferplus_relabelled",
    "load_fer2013",
    "load_ferplus_votes",
    "load_split_if_any",
    "load_training",
    "near_copies",
    "votes_of",
]
