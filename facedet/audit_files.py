"""What an audit leaves on disk: findings.jsonl, a contact sheet per kind, and the proposal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facedet.audit import KINDS, Audit, Finding, label_boxes
from facedet.data.draw import BLUE, GREEN, RED, Image, contact_sheet, spot_tile, write_image
from facedet.data.images import read_photo
from facedet.data.load import RawData
from facedet.data.raw import RawPhoto
from facedet.data.whole_file import write_whole
from facedet.errors import DataError
from facedet.propose import propose_coco, propose_dataturks

TILES = 48
NO_BOXES: npt.NDArray[np.float32] = np.zeros((0, 4), np.float32)


def make_room(folder: Path | None, proposal: Path | None) -> None:
    """Make the folders of what an audit will write. Raises OSError, and DataError where the proposal is a folder."""
    if proposal is not None:
        if proposal.is_dir():
            raise DataError(f"{proposal}: expected a file to write the proposal to, found a folder")
        proposal.parent.mkdir(parents=True, exist_ok=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)


def write_audit(audit: Audit, data: RawData, folder: str | Path) -> list[Path]:
    """findings.jsonl, and for each kind with findings <kind>.jpg: labels green, the label in question red, the
    detection blue. Sheets show the first 48, those of the highest score first.
    """
    folder = Path(folder)
    written = [folder / "findings.jsonl"]
    lines = [json.dumps(finding.as_dict()) + "\n" for finding in audit.findings]
    write_whole(written[0], "".join(lines))
    photos = {photo.name: photo for photo in data.photos}
    for kind in KINDS:
        chosen = sorted((f for f in audit.findings if f.kind == kind), key=lambda f: -f.score)[:TILES]
        if chosen:
            written.append(folder / f"{kind}.jpg")
            write_image(written[-1], contact_sheet([_tile(f, photos[f.photo]) for f in chosen], columns=8))
    return written


def _tile(finding: Finding, photo: RawPhoto) -> Image:
    if photo.path is None:
        raise DataError(f"{photo.name}: no such photo here")
    image = read_photo(photo.path)
    labels = label_boxes(photo, (image.shape[1], image.shape[0]))
    label = NO_BOXES if finding.label_xyxy is None else finding.label_xyxy[None]
    detection = NO_BOXES if finding.detection_xyxy is None else finding.detection_xyxy[None]
    spot = np.concatenate([label, detection])
    around = np.concatenate([spot[:, :2].min(0), spot[:, 2:].max(0)])
    caption = f"{finding.score:.2f} {Path(photo.name).stem[-24:]}"
    return spot_tile(image, around, [(labels, GREEN), (label, RED), (detection, BLUE)], caption=caption)


def write_proposal(audit: Audit, data: RawData, target: str | Path) -> None:
    """Corrected annotations in the format that came in."""
    write = propose_coco if data.form == "coco" else propose_dataturks
    write(data.source, audit, target)
