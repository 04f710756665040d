"""Hold a data set's labels against a detector's findings, so that a person can review where they differ.

Small sets are badly labelled: faces are left out, head boxes are mixed with face boxes. The findings are hints, the
detector errs too; `facedet.propose` writes them as a corrected copy of the annotation file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.boxes import iou_matrix
from facedet.data.checks import pixel_scale
from facedet.data.images import read_photo
from facedet.data.raw import RawPhoto
from facedet.errors import ConfigError, DataError
from facedet.evaluate import Detector
from facedet.faces import Faces

KINDS = {
    "unlabelled": "confident detections without a label",
    "unsure": "less confident detections without a label",
    "undetected": "labels without any detection",
    "loose": "boxes much larger than the detector's",
    "tight": "boxes much smaller than the detector's",
    "shifted": "boxes of the detector's size, but elsewhere",
    "duplicate": "boxes that repeat another of the photo",
    "outside": "boxes that reach out of the photo",
    "degenerate": "boxes without extent in the photo",
}


@dataclass(frozen=True)
class AuditRules:
    """When labels and detections differ. Scores and IoUs in [0, 1]; ratio: of areas, above 1.

    confident: detections of at least this score should have a label. weak: detections of at least this score can
    confirm one. unsure: detections from this score on, up to `confident`, are told too when they have no label; None is
    not. same: IoU from which a box is taken as right. touching: IoU from which the two are about one face.
    """

    confident: float = 0.6
    weak: float = 0.15
    unsure: float | None = None
    same: float = 0.5
    touching: float = 0.1
    ratio: float = 1.6
    duplicate: float = 0.7
    outside_px: float = 2.0
    min_face_px: float = 12.0

    def __post_init__(self) -> None:
        unit = ("confident", "weak", "same", "touching", "duplicate")
        values = {name: getattr(self, name) for name in unit}
        faults = [f"{name} {value}: expected 0 to 1" for name, value in values.items() if not 0 <= value <= 1]
        if self.ratio <= 1:
            faults.append(f"ratio {self.ratio}: expected more than 1")
        if self.weak > self.confident:
            faults.append(f"weak {self.weak}: expected at most confident, {self.confident}")
        if self.unsure is not None and not self.weak <= self.unsure <= self.confident:
            faults.append(f"unsure {self.unsure}: expected {self.weak} to confident, {self.confident}")
        if faults:
            raise ConfigError(faults)


@dataclass(frozen=True, eq=False)
class Finding:
    """One difference. photo: its name. label: index of the box in the annotation, -1 for a face without one.

    label_xyxy, detection_xyxy: float32 [4], pixels, where there is one. score: the detection's.
    """

    photo: str
    kind: str
    label: int
    label_xyxy: npt.NDArray[np.float32] | None
    detection_xyxy: npt.NDArray[np.float32] | None
    score: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        boxes = {"label_xyxy": self.label_xyxy, "detection_xyxy": self.detection_xyxy}
        lists = {k: None if v is None else [round(float(x), 1) for x in v] for k, v in boxes.items()}
        return {"photo": self.photo, "kind": self.kind, "label": self.label, **lists, "score": round(self.score, 3)}


@dataclass(frozen=True)
class Audit:
    """findings in the order of photos; skipped: photo -> why it could not be looked at; labels: boxes looked at.

    sizes: photo -> (width, height) in pixels, of those looked at.
    """

    findings: tuple[Finding, ...]
    skipped: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    labels: int

    @property
    def counts(self) -> dict[str, int]:
        """kind -> number of findings, for every kind."""
        found = Counter(f.kind for f in self.findings)
        return {kind: found[kind] for kind in KINDS}


def audit(
    detector: Detector,
    raws: Sequence[RawPhoto],
    *,
    rules: AuditRules | None = None,
    on_photo: Callable[[int], None] | None = None,
) -> Audit:
    """Look at every photo that is present. The detector should return faces from score `rules.weak` on.

    A photo of another size than declared is taken as resized; one of another shape is skipped.
    """
    rules = rules or AuditRules()
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    labels = 0
    for done, raw in enumerate(raws, 1):
        try:
            if raw.path is None:
                raise DataError("no such photo here")
            image = read_photo(raw.path)
            findings.extend(audit_photo(raw, detector.detect([image])[0], rules))
            sizes[raw.name] = (image.shape[1], image.shape[0])
            labels += len(raw.corners)
        except DataError as e:
            skipped[raw.name] = str(e)
        if on_photo:
            on_photo(done)
    return Audit(tuple(findings), skipped, sizes, labels)


def audit_photo(raw: RawPhoto, faces: Faces, rules: AuditRules) -> list[Finding]:
    """Findings of one photo, a label in one kind at most except that "outside" and "duplicate" come on top.

    Raises DataError as `label_boxes`.
    """
    width, height = faces.image_size_wh
    boxes = label_boxes(raw, faces.image_size_wh)
    inside = boxes.copy()
    inside[:, 0::2] = inside[:, 0::2].clip(0, width)
    inside[:, 1::2] = inside[:, 1::2].clip(0, height)
    empty = ((inside[:, 2:] - inside[:, :2]) < 1).any(1)
    out = (np.abs(inside - boxes) > rules.outside_px).any(1) & ~empty
    twice = _repeats(inside, rules.duplicate, judged=~empty & ~raw.ignore)
    findings = [
        Finding(raw.name, kind, int(i), boxes[i], None, 0.0)
        for kind, flags in (("degenerate", empty), ("outside", out), ("duplicate", twice))
        for i in np.flatnonzero(flags)
    ]
    compared = [int(i) for i in np.flatnonzero(~empty & ~twice & ~raw.ignore)]
    pairs = _pair(inside, faces, compared, rules)
    for i in compared:
        kind = _compare(inside[i], faces.boxes_xyxy[pairs[i]], rules) if i in pairs else "undetected"
        if kind:
            detection, score = (faces.boxes_xyxy[pairs[i]], faces.scores[pairs[i]]) if i in pairs else (None, 0.0)
            findings.append(Finding(raw.name, kind, i, boxes[i], detection, float(score)))
    return findings + _unlabelled(raw.name, inside[~empty], faces, set(pairs.values()), rules)


def label_boxes(raw: RawPhoto, size_wh: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes float32 [N, 4] in the photo's pixels with ordered corners, not clipped; index as in the annotation.

    size_wh: of the photo; DataError when its shape is not the declared one.
    """
    scale = pixel_scale(raw, size_wh)
    if scale is None:
        raise DataError(f"{size_wh[0]}x{size_wh[1]} px, its annotation says {raw.declared_wh}")
    factors = size_wh if raw.relative else scale
    corners = np.nan_to_num(raw.corners * np.array([*factors, *factors]), nan=0.0)
    ordered = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
    return ordered.astype(np.float32)


def _repeats(boxes: npt.NDArray[np.float32], iou: float, *, judged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """bool [N], true for each box of those `judged` that overlaps an earlier one of them by more than `iou`."""
    overlap = np.triu(iou_matrix(boxes, boxes), 1) > iou
    return np.asarray((overlap & judged[:, None]).any(0) & judged, np.bool_)


def _pair(boxes: npt.NDArray[np.float32], faces: Faces, compared: Sequence[int], rules: AuditRules) -> dict[int, int]:
    """label -> detection, one to one, by falling IoU."""
    overlap = iou_matrix(boxes, faces.boxes_xyxy)
    overlap[:, faces.scores < rules.weak] = 0
    pairs: dict[int, int] = {}
    candidates = [(overlap[i, d], i, int(d)) for i in compared for d in np.flatnonzero(overlap[i] >= rules.touching)]
    for _, i, d in sorted(candidates, key=lambda c: -c[0]):
        if i not in pairs and d not in pairs.values():
            pairs[i] = d
    return pairs


def _compare(label: npt.NDArray[np.float32], detection: npt.NDArray[np.float32], rules: AuditRules) -> str:
    """The kind of difference, "" when the boxes agree."""
    if iou_matrix(label[None], detection[None])[0, 0] >= rules.same:
        return ""
    label_area, detection_area = ((b[2:] - b[:2]).prod() for b in (label, detection))
    if label_area >= rules.ratio * detection_area:
        return "loose"
    return "tight" if detection_area >= rules.ratio * label_area else "shifted"


def _unlabelled(
    name: str, boxes: npt.NDArray[np.float32], faces: Faces, paired: set[int], rules: AuditRules
) -> list[Finding]:
    best = iou_matrix(faces.boxes_xyxy, boxes).max(1, initial=0.0)
    sides = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).min(1, initial=np.inf)
    lowest = rules.confident if rules.unsure is None else rules.unsure
    told = (faces.scores >= lowest) & (best < rules.touching) & (sides >= rules.min_face_px)
    kinds = np.where(faces.scores >= rules.confident, "unlabelled", "unsure")
    return [
        Finding(name, str(kinds[d]), -1, None, faces.boxes_xyxy[d], float(faces.scores[d]))
        for d in np.flatnonzero(told)
        if int(d) not in paired
    ]
