"""The next detector steps in, never in silence; without fallback it is an error."""

from __future__ import annotations

import pytest

import facedet
from pipeline.errors import DetectorError, UsageError
from pipeline.fallback import DetectorChain
from tests.pipeline.factories import FailingDetector, SquareDetector, grey_image, make_chain

HAAR = SquareDetector()


def test_the_wanted_detector_works() -> None:
    chain = make_chain({"squares": SquareDetector(), "haar": RuntimeError("must not be loaded")})
    detection = chain.detect(grey_image(100, 60))
    assert (detection.detector, detection.fallback_reason, len(detection.faces)) == ("squares", None, 2)
    assert (chain.first, chain.load_failure) == ("squares", None)


@pytest.mark.parametrize(
    "failure", [facedet.WeightsError("damaged"), facedet.MissingExtra("damaged"), OSError("damaged")]
)
def test_a_detector_that_cannot_load(failure: Exception) -> None:
    chain = make_chain({"compact": failure, "haar": HAAR})
    assert chain.load_failure == "compact could not be loaded: damaged"
    assert chain.first == "squares"
    detection = chain.detect(grey_image())
    assert detection.detector == "squares"
    assert detection.fallback_reason == "compact could not be loaded: damaged"


def test_a_detector_that_fails_on_one_photo_is_used_on_the_next() -> None:
    chain = make_chain({"failing": FailingDetector(limit=200), "haar": HAAR})
    reasons = [chain.detect(grey_image(width)).fallback_reason for width in (100, 300, 100)]
    assert reasons == [None, "failing failed: out of luck", None]


def test_a_stand_in_that_cannot_load_is_no_reason_once_the_wanted_one_works() -> None:
    chain = make_chain({"failing": FailingDetector(limit=200), "haar": OSError("no")})
    with pytest.raises(DetectorError, match=r"^failing failed: out of luck; haar could not be loaded: no$"):
        chain.detect(grey_image(300))
    assert chain.detect(grey_image(100)).fallback_reason is None


def test_a_detector_that_breaks_the_contract_has_failed() -> None:
    class Silent:
        name = "silent"

        def detect(self, images: object) -> list[facedet.Faces]:
            return []

    detection = make_chain({"silent": Silent(), "haar": HAAR}).detect(grey_image())
    assert detection.fallback_reason == "silent failed: expected the faces of 1 image, got 0"


def test_without_fallback_loading_and_failing_are_errors() -> None:
    with pytest.raises(DetectorError, match="compact could not be loaded: damaged"):
        make_chain({"compact": facedet.WeightsError("damaged"), "haar": HAAR}, allow_fallback=False)
    chain = make_chain({"failing": FailingDetector(), "haar": HAAR}, allow_fallback=False)
    with pytest.raises(DetectorError, match="failing failed: out of luck"):
        chain.detect(grey_image())


def test_when_all_fail_all_reasons_are_told() -> None:
    chain = make_chain({"failing": FailingDetector(), "haar": FailingDetector()})
    with pytest.raises(DetectorError, match="failing failed: out of luck; haar failed: out of luck"):
        chain.detect(grey_image())
    with pytest.raises(DetectorError, match="compact could not be loaded: a; haar could not be loaded: b"):
        make_chain({"compact": OSError("a"), "haar": OSError("b")})


def test_a_failure_without_words_is_told_by_its_kind() -> None:
    chain = make_chain({"compact": MemoryError(), "haar": HAAR})
    assert chain.load_failure == "compact could not be loaded: MemoryError"


def test_haar_has_nothing_to_fall_back_on() -> None:
    assert make_chain({"haar": HAAR}).names == ("haar",)


def test_a_setting_no_detector_can_work_with_is_no_reason_to_fall_back() -> None:
    with pytest.raises(UsageError, match="detector 'yolo': expected one of"):
        DetectorChain("yolo", facedet.load_detector)
