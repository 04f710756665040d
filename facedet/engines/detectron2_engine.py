"""Fine-tune Faster R-CNN by Detectron2's own trainer, for comparison: the same settings, data and checkpoints.

What stays Detectron2's own: its augmentation (scale and flip; `light` and `crop_px` are not used), its log, that it
never stops early, its clipping, which bounds each parameter's gradient and not the whole, and faces marked to be
ignored, which it treats as background.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from facedet.checkpoint import read_checkpoint, save_checkpoint, save_whole
from facedet.data.coco import FaceDataset
from facedet.engines.config import FasterRCNNConfig
from facedet.engines.distributed import asked_size
from facedet.errors import ConfigError, MissingExtra
from facedet.model_zoo import fetch_zoo_file
from facedet.models.faster_rcnn import FAIR_PIXEL_STD_BGR, PRESETS
from facedet.run import Run, data_faults, environment, origin

INSTALL = "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"
ZOO_CONFIGS = {
    "faster_rcnn_x101_fpn": "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
    "faster_rcnn_r50_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    "faster_rcnn_r18_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
}
NORM_NAMES = {"frozen_bn": "FrozenBN", "bn": "BN", "gn": "GN"}
UNUSED = ("crop_px", "log_every", "patience")
"""Settings that Detectron2's trainer does not know."""
TRAIN, VAL = "facedet_train", "facedet_val"


def train(
    config: FasterRCNNConfig,
    data: FaceDataset,
    val: FaceDataset | None,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Path:
    """As facedet.engines.torchvision_engine.train; Detectron2 writes its own log, metrics.json and events to `out`.

    Raises MissingExtra, with the command that installs it, without Detectron2.
    """
    try:
        from detectron2.engine import DefaultTrainer, hooks
        from detectron2.evaluation import COCOEvaluator
    except ImportError as e:
        raise MissingExtra(f"the detectron2 engine needs Detectron2, which needs a compiler: {INSTALL}") from e
    val_photos = val.photos if val else ()
    run = Run(out, config, last="last_checkpoint", best="model_best.pth", origin=origin(data.photos, val_photos))
    faults = config.faults() + data_faults(data.photos, val_photos) + run.faults(resume=resume)
    faults += [] if resume else config.start_faults()
    if config.precision not in ("auto", "float32") and not torch.cuda.is_available():
        faults.append(f"precision {config.precision!r}: the detectron2 engine has float32 alone on a processor")
    if config.model not in ZOO_CONFIGS:
        faults.append(f"model {config.model}: the detectron2 engine has {', '.join(ZOO_CONFIGS)}")
    if asked_size() > 1:
        faults.append("the detectron2 engine runs in one process here; the torchvision engine runs under torchrun")
    if faults:
        raise ConfigError(faults)

    class Trainer(DefaultTrainer):  # type: ignore[misc]
        @classmethod
        def build_evaluator(cls, cfg: Any, name: str) -> Any:
            limit = PRESETS[config.preset].max_detections
            return COCOEvaluator(name, ("bbox",), True, str(out / "inference"), max_dets_per_image=limit)

        def build_hooks(self) -> list[Any]:
            chosen: list[Any] = super().build_hooks()
            chosen.insert(-1, Best())
            return chosen

    class Best(hooks.HookBase):  # type: ignore[misc]
        """Writes model_best.pth after a measurement. Detectron2's own BestCheckpointer forgets its best on resume."""

        def __init__(self) -> None:
            before = read_checkpoint(run.best).about["metrics"] if run.best.exists() else {}
            self.ap = before.get("AP", -1.0)

        def after_step(self) -> None:
            steps = self.trainer.iter + 1
            if steps % config.eval_every == 0 and steps < config.steps:
                self.keep(steps)

        def after_train(self) -> None:
            if self.trainer.iter >= config.steps:  # else the last step has failed
                self.keep(config.steps)
                final = read_checkpoint(out / "model_final.pth")
                about = _about(config, config.steps, measured(self.trainer.storage.latest()))
                save_whole({"model": final.tensors, "facedet": about, **final.rest}, final.path)

        def keep(self, steps: int) -> None:
            metrics = measured(self.trainer.storage.latest())
            if metrics.get("AP", -1.0) > self.ap:
                self.ap = metrics["AP"]
                save_checkpoint(run.best, self.trainer.model, about=_about(config, steps, metrics))
            report({"step": steps, **metrics})

    weights = ""
    if run.last.exists():
        # Refused here, before Detectron2, whose own reader would run a pickle.
        read_checkpoint(out / run.last.read_text(encoding="utf-8").strip())
    else:
        weights = _weights(config)
    run.write_settings()
    _register(TRAIN, data)
    if val is not None:
        _register(VAL, val)
    trainer = Trainer(detectron2_config(config, out, weights=weights, measured=val is not None))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return run.best if run.best.exists() else out / "model_final.pth"


def measured(latest: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """The last measurement among the latest values of Detectron2's log, in [0, 1] instead of percent."""
    found = {name: value / 100 for name, (value, _) in latest.items() if name.startswith("bbox/")}
    return {name.removeprefix("bbox/"): value for name, value in found.items() if math.isfinite(value)}


def detectron2_config(config: FasterRCNNConfig, out: Path, *, weights: str, measured: bool) -> Any:
    """Detectron2's own settings (a frozen CfgNode) for `config`. weights: a file to start from, "" for none."""
    from detectron2 import model_zoo

    preset = PRESETS[config.preset]
    cfg = model_zoo.get_config(ZOO_CONFIGS[config.model])
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.BACKBONE.FREEZE_AT = config.frozen_stages()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[size] for size in preset.anchor_sizes_px]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [list(preset.anchor_ratios)]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = preset.train_proposals.per_level
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = preset.train_proposals.per_image
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = preset.test_proposals.per_level
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = preset.test_proposals.per_image
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = preset.classes
    cfg.TEST.DETECTIONS_PER_IMAGE = preset.max_detections
    norm = config.normalisation()
    cfg.MODEL.RESNETS.NORM = NORM_NAMES[norm]
    cfg.MODEL.FPN.NORM = "" if norm == "frozen_bn" and config.model != "faster_rcnn_r18_fpn" else NORM_NAMES[norm]
    if config.model == "faster_rcnn_r18_fpn":
        _make_narrow(cfg)
    _set_solver(cfg, config)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN,), (VAL,) if measured else ()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = tuple(config.short_px), config.long_px
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = config.test_short_px, config.test_long_px
    cfg.INPUT.RANDOM_FLIP = "horizontal" if config.flip else "none"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.DATALOADER.NUM_WORKERS = 0 if (os.cpu_count() or 1) < 4 else 2
    cfg.OUTPUT_DIR, cfg.SEED = str(out), config.seed
    cfg.freeze()
    return cfg


def _make_narrow(cfg: Any) -> None:
    """The shape of models.faster_rcnn.faster_rcnn_r18_fpn."""
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 128, 256
    cfg.MODEL.PIXEL_STD = list(FAIR_PIXEL_STD_BGR)


def _set_solver(cfg: Any, config: FasterRCNNConfig) -> None:
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = config.batch_size, config.steps
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM = config.lr, config.momentum
    cfg.SOLVER.WEIGHT_DECAY = config.weight_decay
    cfg.SOLVER.WARMUP_ITERS = min(config.warmup_steps, config.steps - 1)
    cfg.SOLVER.STEPS = tuple(int(drop * config.steps) for drop in config.lr_drops)
    cfg.SOLVER.CHECKPOINT_PERIOD = cfg.TEST.EVAL_PERIOD = config.eval_every
    cfg.SOLVER.AMP.ENABLED = torch.cuda.is_available() and config.precision != "float32"
    if config.clip_norm:
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, "norm"
        cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = config.clip_norm


def _weights(config: FasterRCNNConfig) -> str:
    """A local file that this package's reader has accepted, since Detectron2's own would run a pickle."""
    if config.weights == "none":
        return ""
    fetched = config.weights in ("coco", "imagenet")
    path = fetch_zoo_file(config.model, config.weights) if fetched else Path(config.weights)
    read_checkpoint(path)
    return str(path)


def _register(name: str, data: FaceDataset) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: records(data))
    MetadataCatalog.get(name).set(thing_classes=["face"])


def records(data: FaceDataset) -> list[dict[str, Any]]:
    """The photos as Detectron2 wants them."""
    from detectron2.structures import BoxMode

    return [
        {
            "file_name": str(photo.path),
            "image_id": number,
            "width": photo.width,
            "height": photo.height,
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": int(ignore)}
                for box, ignore in zip(photo.boxes_xyxy.tolist(), photo.ignore.tolist(), strict=True)
            ],
        }
        for number, photo in enumerate(data.photos, 1)
    ]


def _about(config: FasterRCNNConfig, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What model a checkpoint holds, so that this package needs no settings to use it."""
    return {**config.about(), **environment(), "engine": "detectron2", "step": step, "metrics": dict(metrics)}
