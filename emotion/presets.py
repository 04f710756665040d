"""Each author's recipe as a `TrainConfig`, by architecture. What an author left unsaid is said in `NOTES`."""

from __future__ import annotations

import dataclasses

from emotion.config import TrainConfig
from emotion.data.augment import Augmentation

PLAIN = Augmentation(rotation_degrees=0, scale=0, shift=0, flip=0, contrast=0, brightness=0, low_resolution=0, erase=0)
"""No augmentation at all."""
KERAS_GENERATOR = dataclasses.replace(PLAIN, rotation_degrees=10, scale=0.1, shift=0.1, flip=0.5)
"""What mini-Xception's authors ask of Keras' ImageDataGenerator."""
MILD = Augmentation(
    rotation_degrees=6, scale=0.08, shift=0.05, flip=0.5, contrast=0.15, brightness=0.1, low_resolution=0.03, erase=0
)
"""For a network that underfits, or one that goes on from an earlier run."""
SEAM = Augmentation(blur=0.05, gamma=0.4, jpeg=0.05)
"""For faces as photos and detectors give them: boxes that are off, small, blurred, compressed, dark and light faces."""
AUGMENTATIONS = {"none": PLAIN, "mild": MILD, "strong": Augmentation(), "seam": SEAM}

KERAS = TrainConfig(
    epochs=50, batch_size=64, optimiser="adam", lr=1e-3, weight_decay=0.0, warmup_epochs=0.0,
    schedule="plateau", plateau_factor=0.1, plateau_patience=3, early_stopping=5, select="loss", keep_falls=True,
    label_smoothing=0.0, ferplus_weight=0.0, ema_decay=0.0, clip_norm=0.0,
    size_schedule=((0.0, 48),), view=1.0, augmentation=PLAIN,
)  # fmt: skip
"""Adam at 1e-3, rate a tenth after three epochs without a lower validation loss, stop after five and keep the best."""

IMAGENET = dataclasses.replace(KERAS, weights="imagenet")

_RECIPES: dict[str, TrainConfig] = {
    "simple_cnn": KERAS,
    "resnet18": IMAGENET,
    "resnet50": IMAGENET,
    "resnet50_partial": dataclasses.replace(IMAGENET, epochs=40, free_upper_at=20),
    "cnn1": KERAS,
    "cnn2": KERAS,
    "cnn6": dataclasses.replace(KERAS, lr=3e-3),
    "vgg16_frozen": IMAGENET,
    "resnet101_frozen": IMAGENET,
    "vgg16": IMAGENET,
    "inception_v3": dataclasses.replace(IMAGENET, size_schedule=((0.0, 75),)),
    "mini_xception": dataclasses.replace(
        KERAS, epochs=85, batch_size=32, plateau_patience=12, early_stopping=50, augmentation=KERAS_GENERATOR
    ),
    "fer_resnet": TrainConfig(),
    "fer_resnet_plain": TrainConfig(),
    "fer_resnet_wide": TrainConfig(),
    "fer_resnet_large": TrainConfig(),
    "knn": KERAS,
    "mlp": KERAS,
}

PRESETS: dict[str, TrainConfig] = {name: dataclasses.replace(r, model=name) for name, r in _RECIPES.items()}
"""Architecture -> recipe. The baselines have no other settings than the classes."""

PUBLISHED: dict[str, str] = {
    "knn": "31.5 %",
    "mlp": "22.8 %",
    "simple_cnn": "54.8 %",
    "resnet18": "62.8 % (validation)",
    "resnet50": "62.5 % (validation)",
    "resnet50_partial": '"86.3 %" (binary)',
    "cnn1": "64 % (another set, 4 classes)",
    "cnn2": "72 % (another set, 4 classes)",
    "cnn6": "64 % (another set, 4 classes)",
    "vgg16_frozen": "about 50 % (4 classes)",
    "resnet101_frozen": "about 32 % (4 classes)",
    "vgg16": "43.8 %",
    "inception_v3": "66.3 % (test)",
    "mini_xception": "65 % (validation)",
}
"""Architecture -> what its authors report."""

_USUAL = "at most 50 epochs, batches of 64 and the usual Keras callbacks"
NOTES: dict[str, str] = {
    "knn": "Number of neighbours not told: scikit-learn's default, 5.",
    "mlp": "Layers not told: scikit-learn's default, one of 100.",
    "simple_cnn": "Widths, optimiser and epochs not told: 32/64/64 and the usual Keras callbacks.",
    "resnet18": f"Epochs, batch and callbacks not told: {_USUAL}.",
    "resnet50": f"Epochs, batch and callbacks not told: {_USUAL}.",
    "resnet50_partial": "Rate of the second phase not told: as in the first. Frozen up to conv5_block1.",
    "cnn1": "Dropout rates not told: 0.2 and 0.4.",
    "cnn2": "Slope and dropout rates not told: 0.1 and 0.2.",
    "cnn6": "Kernel not told: 3x3.",
    "vgg16_frozen": f"Optimiser, epochs, batch and callbacks not told: Adam 1e-3, {_USUAL}.",
    "resnet101_frozen": f"Optimiser, epochs, batch and callbacks not told: Adam 1e-3, {_USUAL}.",
    "vgg16": "Head not told: one dense layer on the pooled features.",
    "inception_v3": f"Optimiser, epochs, batch and callbacks not told: Adam 1e-3, {_USUAL}.",
    "mini_xception": (
        "Patience of 12 epochs and 50, as its authors' code has it. There faces have 64 px, the first two convolutions "
        "an L2 penalty of 0.01, pooling pads the end alone, up to 10,000 epochs are judged by a fifth of the images; "
        "here 48 px, no penalty, both sides, up to 85 by PublicTest."
    ),
}
"""What had to be chosen because the authors do not say, and what differs from their code.

All batch norms are as torch and torchvision have them."""
