"""Write an audit's findings as a corrected copy of the annotation file, in the format that came in.

Every change carries a note, so that a person can review it: Dataturks records in `notes`, COCO in `audit`. Labels the
detector did not find are kept and marked, never removed; only duplicates and boxes without extent go. What the detector
is not sure of becomes a face to ignore in COCO; Dataturks' format has none, there it is left out.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.audit import Audit, Finding
from facedet.data.coco_file import face_categories, image_key, images_by_key, photo_name, read_json, size_of
from facedet.data.dataturks import is_face, raw_photo, read_records, shaped
from facedet.data.whole_file import write_whole
from facedet.errors import DataError

REMOVED = ("duplicate", "degenerate")
RESIZED = ("loose", "tight", "shifted")

Sizes = Mapping[str, tuple[int, int]]
Scales = Mapping[str, npt.NDArray[np.float64]]


def propose_dataturks(source: str | Path, audit: Audit, target: str | Path) -> None:
    """The audit's corrections in the shape that came in: JSON lines, an array, or an object with `data`.

    Records of no use stay as they are.
    """
    by_photo = _group(audit.findings)
    seen: dict[str, int] = {}
    records, document = read_records(Path(source))
    proposed = []
    for number, record in enumerate(records, 1):
        photo = raw_photo(record, number)
        if photo.fault:
            proposed.append(record)
            continue
        name = photo.name
        again, first, changed = name in seen, seen.get(name, 0), copy.deepcopy(record)
        faces = [a for a in changed.get("annotation") or [] if is_face(a)]
        seen[name] = first + len(faces)
        findings = [f for f in by_photo.get(name, ()) if f.label >= first or (f.label < 0 and not again)]
        if findings:
            _correct_dataturks(changed, faces, findings, audit.sizes[name], first=first)
        proposed.append(changed)
    write_whole(Path(target), shaped(proposed, document))


def _correct_dataturks(
    record: dict[str, Any], faces: list[dict[str, Any]], findings: list[Finding], size: tuple[int, int], *, first: int
) -> None:
    removed: list[int] = []
    added: list[dict[str, Any]] = []
    annotations = record.get("annotation") or []
    declared = ((a["imageWidth"], a["imageHeight"]) for a in annotations if a.get("imageWidth"))
    width, height = next(declared, size)
    for finding in findings:
        box = corrected_box(finding, size)
        points = [] if box is None else _points(box, size)
        if finding.kind == "unsure":
            continue
        if finding.label < 0:
            face = {"label": ["Face"], "notes": note(finding), "points": points}
            added.append(face | {"imageWidth": width, "imageHeight": height})
            continue
        if finding.label - first >= len(faces):
            continue
        annotation = faces[finding.label - first]
        if finding.kind in REMOVED:
            removed.append(id(annotation))
            continue
        annotation["notes"] = "; ".join(n for n in (_text(annotation.get("notes")), note(finding)) if n)
        if points:
            annotation["points"] = points
    record["annotation"] = [a for a in annotations if id(a) not in removed] + added


def propose_coco(source: str | Path, audit: Audit, target: str | Path) -> None:
    """COCO JSON with the audit's corrections; ids, categories and further fields of annotations stay."""
    document = copy.deepcopy(read_json(Path(source)))
    try:
        by_photo = _group(audit.findings)
        wanted = face_categories(document, {"face"}, Path(source))
        images = {photo_name(image): image for image in reversed(document["images"])}
        scales = {name: _scale(images[name], size) for name, size in audit.sizes.items() if name in images}
        labels = _labels_in_turn(document, wanted)
        kept = []
        for annotation in document["annotations"]:
            name, index = labels.get(id(annotation), ("", -1))
            mine = [f for f in by_photo.get(name, ()) if f.label == index]
            if not any(f.kind in REMOVED for f in mine):
                kept.append(_correct_coco(annotation, mine, audit.sizes, scales))
        numbers = [a["id"] for a in document["annotations"] if isinstance(a.get("id"), int)]
        next_id = max(numbers, default=0) + 1
        category = min(wanted)
        new = [f for f in audit.findings if f.label < 0 and f.photo in images]
        for number, finding in enumerate(new, next_id):
            base = {"id": number, "image_id": images[finding.photo]["id"], "category_id": category}
            base["iscrowd"] = int(finding.kind == "unsure")
            kept.append(_correct_coco(base, [finding], audit.sizes, scales))
        document["annotations"] = kept
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise DataError(f"{source}: not COCO JSON as expected: {type(e).__name__} {e}") from e
    write_whole(Path(target), json.dumps(document, indent=1))


def _labels_in_turn(document: Any, wanted: Collection[Any]) -> dict[int, tuple[str, int]]:
    """id() of each annotation of a face -> its photo's name, and which of the photo's labels it is for the audit.

    Labels of a photo that is listed twice go on counting with its next listing, as they were joined.
    """
    of_image: dict[str, list[int]] = {key: [] for key in images_by_key(document["images"])}
    for annotation in document["annotations"]:
        if annotation["category_id"] in wanted and (key := image_key(annotation["image_id"])) in of_image:
            of_image[key].append(id(annotation))
    seen: Counter[str] = Counter()
    labels: dict[int, tuple[str, int]] = {}
    for key, image in images_by_key(document["images"]).items():
        name = photo_name(image)
        labels |= {annotation: (name, index) for index, annotation in enumerate(of_image[key], seen[name])}
        seen[name] += len(of_image[key])
    return labels


def _scale(image: Mapping[str, Any], size_wh: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Factors [4] from the photo's pixels to the annotation's, which may be those of a larger or smaller copy."""
    width, height = size_of(image) or size_wh
    return np.array([width / size_wh[0], height / size_wh[1]] * 2)


def _correct_coco(
    annotation: dict[str, Any], findings: Sequence[Finding], sizes: Sizes, scales: Scales
) -> dict[str, Any]:
    for finding in findings:
        annotation["audit"] = "; ".join(n for n in (_text(annotation.get("audit")), note(finding)) if n)
        box = corrected_box(finding, sizes[finding.photo])
        if box is not None:
            x1, y1, x2, y2 = (float(v) for v in box * scales[finding.photo])
            annotation["bbox"] = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            annotation["area"] = round((x2 - x1) * (y2 - y1), 2)
    return annotation


def corrected_box(finding: Finding, size_wh: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """The proposed box, float32 [4] in pixels; None where the label's own box stays."""
    if finding.kind in (*RESIZED, "unlabelled", "unsure"):
        return finding.detection_xyxy
    if finding.kind == "outside" and finding.label_xyxy is not None:
        return finding.label_xyxy.clip(0, np.array([*size_wh, *size_wh], np.float32))
    return None


def note(finding: Finding) -> str:
    """What a reviewer reads beside the change."""
    was = "" if finding.label_xyxy is None else f", was {[round(float(v), 1) for v in finding.label_xyxy]}"
    texts = {
        "unlabelled": f"audit: added, found with score {finding.score:.2f}",
        "unsure": f"audit: to ignore, found with score {finding.score:.2f}",
        "undetected": "audit: check, the detector finds nothing here",
        "outside": f"audit: clipped to the photo{was}",
    }
    return texts.get(finding.kind, f"audit: {finding.kind}, box of the detector (score {finding.score:.2f}){was}")


def _text(notes: Any) -> str:
    """What an annotation has been noted with, which some files have as a list."""
    return "; ".join(map(str, notes)) if isinstance(notes, list) else str(notes or "")


def _points(box: npt.NDArray[np.float32], size: tuple[int, int]) -> list[dict[str, float]]:
    width, height = size
    return [{"x": float(box[i]) / width, "y": float(box[i + 1]) / height} for i in (0, 2)]


def _group(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.photo, []).append(finding)
    return groups
