"""The classifier that other packages call: face crops in, seven probabilities out. Needs onnxruntime, not torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion.card import TEST_TIME_MODES, ModelCard
from emotion.errors import WeightsError
from emotion.expressions import EMOTIONS, Expressions
from emotion.views import grey_faces, mean_logits, probabilities


class ExpressionClassifier:
    """An exported network. `identity` is "<name>@<first 12 digits of the file's SHA-256>"; `card` says what it is."""

    def __init__(
        self, name: str, weights: bytes, *, where: str, threads: int | None = None, test_time: str | None = None
    ) -> None:
        """weights: content of an ONNX file; where: its place, for errors; threads: processor threads, None for all.

        test_time: views per face (`TEST_TIME_MODES`), None for what the file says. Raises WeightsError.
        """
        if test_time is not None and test_time not in TEST_TIME_MODES:
            raise ValueError(f"test_time {test_time!r}: expected one of {', '.join(TEST_TIME_MODES)}")
        self._session = _open_session(weights, where, threads)
        self.card = ModelCard.from_properties(self._session.get_modelmeta().custom_metadata_map, where)
        self.identity = f"{name}@{hashlib.sha256(weights).hexdigest()[:12]}"
        self._test_time = test_time
        self._input = self._session.get_inputs()[0].name
        outputs = self._session.get_outputs()[0].shape[-1]
        if outputs != len(self.card.labels):
            raise WeightsError(f"{where}: {outputs} outputs for {len(self.card.labels)} labels: expected as many")

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]]) -> Expressions:
        """Probabilities per crop, in the order of the crops; an emotion that the network does not know gets 0.

        crops: uint8 [H, W] grey or [H, W, 3] BGR, any size. Raises DataError naming a crop that is neither.
        """
        if len(crops) == 0:
            return Expressions.empty()
        shares = probabilities(self.logits(grey_faces(crops)), temperature=self.card.temperature)
        columns = np.zeros((len(shares), len(EMOTIONS)), np.float32)
        columns[:, [EMOTIONS.index(label) for label in self.card.labels]] = shares
        return Expressions(columns)

    def logits(self, faces: npt.NDArray[np.uint8], *, test_time: str | None = None) -> npt.NDArray[np.float32]:
        """Raw outputs float32 [N, labels of the card] for faces uint8 [N, 48, 48], before temperature and softmax."""
        return mean_logits(self._run, faces, card=self.card, test_time=test_time or self._test_time)

    def _run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        outputs: npt.NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        return outputs


def load_classifier(
    name_or_path: str | Path = "default", *, threads: int | None = None, test_time: str | None = None
) -> ExpressionClassifier:
    """Load a shipped classifier by name ("default") or an ONNX file made by `emotion export` by path.

    Raises WeightsError, naming the file and what was expected, when it is missing, damaged or not ours.
    """
    text = str(name_or_path)
    shipped = resources.files("emotion") / "weights"
    is_name = not text.endswith(".onnx") and Path(text).name == text
    source = shipped / f"{text}.onnx" if is_name else Path(text)
    try:
        weights = source.read_bytes() if source.is_file() else None
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read: {error.strerror}") from None
    if weights is None:
        names = ", ".join(shipped_classifiers()) or "none"
        raise WeightsError(
            f"{source if not is_name else text}: no such classifier: expected a shipped one ({names}) "
            "or the path of an .onnx file made by `emotion export`"
        )
    return ExpressionClassifier(Path(text).stem, weights, where=str(source), threads=threads, test_time=test_time)


def shipped_classifiers() -> list[str]:
    """Names of the weight files inside the installed package."""
    folder = resources.files("emotion") / "weights"
    if not folder.is_dir():
        return []
    return sorted(file.name[: -len(".onnx")] for file in folder.iterdir() if file.name.endswith(".onnx"))


def _open_session(weights: bytes, where: str, threads: int | None) -> Any:
    """An onnxruntime session; onnxruntime has no common error class, so that whatever opening raises means damage."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Else its threads go on spinning after each call, and slow what comes next: the other network, other programs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{where}: damaged or no ONNX file: expected one made by `emotion export` ({reason})"
        ) from None
