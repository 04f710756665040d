"""Every error that `pipeline` raises on purpose.

PipelineError
├── UsageError     an option or a source that cannot work; nothing was started
├── PhotoError     one photo that cannot be read or written; costs one error line, never the run
├── DetectorError  no detector that may be used can be used
├── OutputError    an output folder that cannot be written, is in use, or holds another run
├── DataError      a results or truth file that is not what was expected
└── MissingExtra   a feature whose optional dependency is not installed
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all errors of this package; its text is fit for a user."""


class UsageError(PipelineError):
    """An option or a source that cannot work; raised before any work starts."""


class PhotoError(PipelineError):
    """One photo that cannot be read or written. `reason` is the text without the photo's name."""

    def __init__(self, reason: str, *, source: str | None = None) -> None:
        self.reason = reason
        super().__init__(f"{source}: {reason}" if source else reason)


class DetectorError(PipelineError):
    """No detector that may be used can be used; the text says why for each."""


class OutputError(PipelineError):
    """An output folder that cannot be written, is in use by another run, or holds another run's state."""


class DataError(PipelineError):
    """A results or truth file that is not what was expected; names the file and the line."""


class MissingExtra(PipelineError):
    """A feature needs an optional dependency; the text names the install command."""
