"""The one value that leaves a detector: the faces of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces of one upright image, sorted by falling score.

    boxes_xyxy: float32 [N, 4], pixels, 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.
    scores: float32 [N] in [0, 1]. image_size_wh: (width, height) in pixels.
    Raises ValueError with the expected and the actual value when any of this does not hold.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    image_size_wh: tuple[int, int]

    def __post_init__(self) -> None:
        boxes, scores, (width, height) = self.boxes_xyxy, self.scores, self.image_size_wh
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
            raise ValueError(f"boxes_xyxy: expected float32 [N, 4], got {boxes.dtype} {list(boxes.shape)}")
        if scores.shape != (len(boxes),) or scores.dtype != np.float32:
            raise ValueError(f"scores: expected float32 [{len(boxes)}], got {scores.dtype} {list(scores.shape)}")
        if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()):
            raise ValueError("scores: expected finite values in [0, 1]")
        if (np.diff(scores) > 0).any():
            raise ValueError("scores: expected falling order; use Faces.from_raw to sort")
        x1, y1, x2, y2 = boxes.T
        good = (x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)
        if not good.all():
            raise ValueError(
                f"boxes_xyxy: expected 0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}, "
                f"got {boxes[~good][0].tolist()}"
            )
        boxes.setflags(write=False)
        scores.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, image_size_wh: tuple[int, int]) -> Faces:
        """No faces."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), image_size_wh)

    @classmethod
    def from_raw(
        cls,
        boxes_xyxy: npt.ArrayLike,
        scores: npt.ArrayLike,
        image_size_wh: tuple[int, int],
        *,
        min_side_px: float = 1.0,
    ) -> Faces:
        """Make valid faces of a detector's raw output: clip to the image, drop slivers under `min_side_px`, sort.

        boxes_xyxy: [N, 4] and scores: [N], any float type; scores are clipped to [0, 1], rows with NaN are dropped.
        """
        boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
        values = np.array(scores, np.float32).reshape(-1)
        width, height = image_size_wh
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        keep = (sides >= max(min_side_px, 1e-3)) & np.isfinite(values)
        order = np.argsort(-values[keep], kind="stable")
        return cls(boxes[keep][order], values[keep][order].clip(0, 1), image_size_wh)

    def select(self, keep: npt.NDArray[np.bool_]) -> Faces:
        """The faces where `keep` (bool [N]) is true."""
        return Faces(self.boxes_xyxy[keep].copy(), self.scores[keep].copy(), self.image_size_wh)
