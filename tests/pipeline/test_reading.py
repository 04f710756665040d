"""PhotoReading and its JSON form, held to the JSON Schema file."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion import EMOTIONS
from pipeline.errors import DataError
from pipeline.reading import SCHEMA_FILE, FaceReading, PhotoReading
from tests.pipeline.factories import make_face, make_reading

SCHEMA = json.loads((resources.files("pipeline") / "schema" / SCHEMA_FILE).read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

READINGS = {
    "no faces": make_reading(),
    "two faces": make_reading(faces=[make_face(), make_face((0, 0, 200, 100), "sad")]),
    "too small": make_reading(faces=[make_face(emotion_name=None)]),
    "fallback": make_reading(detector="haar", fallback_reason="compact could not be loaded: no"),
    "not decoded": PhotoReading("ü/東.jpg", elapsed_ms=0.1, error="the file is empty"),
    "no timing": make_reading(elapsed_ms=None),
    "turned": make_reading(exif_orientation=6),
}


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", READINGS)
def test_readings_keep_the_schema_and_survive_the_round_trip(name: str) -> None:
    data = READINGS[name].to_dict()
    VALIDATOR.validate(data)
    again = PhotoReading.from_dict(json.loads(json.dumps(data)))
    assert again == READINGS[name]
    assert again.to_dict() == data


def face_data(**changes: Any) -> dict[str, Any]:
    return {**make_face().to_dict(), **changes}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "crowdmood/2"},
        {"photo": None},
        {"width": 0},
        {"width": None},
        {"detector": None},
        {"exif_orientation": 9},
        {"emotion_model": "default"},
        {"more": 1},
        {"faces": [face_data(emotion="joy")]},
        {"faces": [face_data(confidence=1.5)]},
        {"faces": [face_data(box_xyxy=[1, 2, 3])]},
        {"faces": [face_data(probabilities={"happy": 1.0})]},
        {"faces": [face_data(too_small=True)]},
        {"faces": [face_data(emotion=None)]},
    ],
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**make_reading().to_dict(), **change})


@given(
    st.lists(st.floats(0, 1, width=32), min_size=7, max_size=7).filter(lambda shares: sum(shares) > 0.1),
    st.floats(0, 1, width=32),
)
def test_any_probabilities_keep_the_schema(shares: list[float], score: float) -> None:
    total = sum(shares)
    face = FaceReading((0, 0, 9.876543, 8), score, {n: s / total for n, s in zip(EMOTIONS, shares, strict=True)})
    data = face.to_dict()
    VALIDATOR.validate(make_reading(faces=[face]).to_dict())
    assert data["probabilities"][data["emotion"]] == data["confidence"] == max(data["probabilities"].values())
    assert sum(data["probabilities"].values()) == pytest.approx(1, abs=0.0005)


FACE = make_face().to_dict()


def with_face(**changes: Any) -> dict[str, Any]:
    return {**make_reading().to_dict(), "faces": [face_data(**changes)]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected an object with schema 'crowdmood/1', got"),
        ({"schema": "other"}, "expected an object with schema 'crowdmood/1', got 'other'"),
        ({"schema": "crowdmood/1", "photo": "a.jpg"}, r"photo 'a\.jpg': not of schema crowdmood/1: KeyError"),
        ({**make_reading().to_dict(), "faces": [{"box_xyxy": [1]}]}, "expected a face of schema crowdmood/1"),
        ({**make_reading().to_dict(), "faces": [{**FACE, "probabilities": {}}]}, "expected probabilities of angry,"),
        ({**make_reading().to_dict(), "faces": [{**FACE, "probabilities": {"joy": 1}}]}, "expected probabilities of"),
        ({**make_reading().to_dict(), "faces": [{**FACE, "score": float("nan")}]}, "expected a finite number, got nan"),
        ({**make_reading().to_dict(), "faces": [{**FACE, "box_xyxy": [0, 0, 9, 10**400]}]}, "OverflowError"),
        ({**make_reading().to_dict(), "width": "200"}, "expected a size in pixels, got '200'"),
        ({**make_reading().to_dict(), "photo": None}, "expected the name of a photo, got None"),
        ({**make_reading().to_dict(), "photo": ""}, "expected the name of a photo, got ''"),
        ({**make_reading().to_dict(), "photo": "./"}, r"expected the name of a photo, got '\./'"),
        ({**make_reading().to_dict(), "photo": "a\0.jpg"}, "expected the name of a photo"),
        ({**make_reading().to_dict(), "photo": "a\udce9.jpg"}, "surrogates not allowed"),
        ({**make_reading().to_dict(), "detector": ["haar"]}, r"expected text, got \['haar'\]"),
        ({**make_reading().to_dict(), "fallback_reason": {}}, "expected text, got {}"),
        ({**make_reading().to_dict(), "emotion_model": 1}, "expected text, got 1"),
        ({**make_reading().to_dict(), "error": []}, r"expected text, got \[\]"),
        ({**make_reading().to_dict(), "exif_orientation": 99}, "expected an exif_orientation from 1 to 8, got 99"),
        ({**make_reading().to_dict(), "exif_orientation": "6"}, "expected an exif_orientation from 1 to 8, got '6'"),
        (with_face(box_xyxy=[50, 40, 10, 90]), "expected a box with 0 <= x1 < x2 and 0 <= y1 < y2"),
        (with_face(box_xyxy=[-1, 0, 10, 90]), "expected a box with 0 <= x1 < x2 and 0 <= y1 < y2"),
        (with_face(box_xyxy=[0, 0, 200.01, 90]), "expected boxes within the photo, which is 200 x 100 pixels"),
        (with_face(box_xyxy=[0, 0, 200, 101]), "expected boxes within the photo, which is 200 x 100 pixels"),
        ({**with_face(), "width": None}, "expected boxes within the photo, which is None x 100 pixels"),
        (with_face(score=7), "expected a number from 0 to 1, got 7"),
        (with_face(probabilities={**FACE["probabilities"], "sad": -3}), "expected a number from 0 to 1, got -3"),
    ],
)
def test_what_is_no_reading_is_told(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PhotoReading.from_dict(data)


def test_a_face_knows_its_emotion() -> None:
    face = make_face((0, 0, 20, 40), "fear")
    assert (face.emotion, face.confidence, face.size_px, face.too_small) == ("fear", 0.7, 30, False)
    unknown = make_face(emotion_name=None)
    assert (unknown.emotion, unknown.confidence, unknown.too_small) == (None, None, True)
