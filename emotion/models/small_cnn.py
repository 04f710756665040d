"""The small convolutional networks of earlier projects, rebuilt layer by layer from their Keras summaries.

All take grey faces of 48 pixels, float32 [N, 1, 48, 48] in [0, 1], and give logits [N, num_classes].
"""

from __future__ import annotations

from torch import nn

from emotion.models.standardise import Standardise


def simple_cnn(num_classes: int = 7) -> nn.Sequential:
    """Three convolutions and a dense layer; published 54.8 %."""
    return nn.Sequential(
        Standardise(),
        *_conv(1, 32, 3), nn.MaxPool2d(2),
        *_conv(32, 64, 3), nn.MaxPool2d(2),
        *_conv(64, 64, 3), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 6 * 6, 128), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Linear(128, num_classes),
    )  # fmt: skip


def cnn1(num_classes: int = 7) -> nn.Sequential:
    """Three blocks of 2x2 convolutions, 64/32/32, dropout, dense 512; published 64 % on another, four-class set."""
    return nn.Sequential(
        Standardise(),
        *_conv(1, 64, 2), nn.MaxPool2d(2), nn.Dropout(0.2),
        *_conv(64, 32, 2), nn.MaxPool2d(2), nn.Dropout(0.2),
        *_conv(32, 32, 2), nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Flatten(), nn.Linear(32 * 6 * 6, 512), nn.ReLU(inplace=True), nn.Dropout(0.4),
        nn.Linear(512, num_classes),
    )  # fmt: skip


def cnn2(num_classes: int = 7) -> nn.Sequential:
    """Four blocks of 2x2 convolutions, 256/128/64/32, batch norm, leaky ReLU, dense 512 and 128; published 72 %."""
    blocks: list[nn.Module] = []
    for c_in, c_out in ((1, 256), (256, 128), (128, 64), (64, 32)):
        blocks += [*_normed_conv(c_in, c_out, 2, slope=0.1), nn.MaxPool2d(2), nn.Dropout(0.2)]
    return nn.Sequential(
        Standardise(),
        *blocks,
        nn.Flatten(), nn.Linear(32 * 3 * 3, 512), nn.LeakyReLU(0.1),
        nn.Linear(512, 128), nn.LeakyReLU(0.1),
        nn.Linear(128, num_classes),
    )  # fmt: skip


def cnn6(num_classes: int = 7) -> nn.Sequential:
    """Five blocks, 64/128/512/512/128, batch norm, leaky ReLU and dropout 0.2, dense 256 and 512; published 64 %."""
    blocks: list[nn.Module] = []
    for c_in, c_out in ((1, 64), (64, 128), (128, 512), (512, 512), (512, 128)):
        blocks += [*_normed_conv(c_in, c_out, 3, slope=0.2), nn.MaxPool2d(2), nn.Dropout(0.2)]
    return nn.Sequential(
        Standardise(),
        *blocks,
        nn.Flatten(),
        *_dense(128, 256), *_dense(256, 512),
        nn.Linear(512, num_classes),
    )  # fmt: skip


def _conv(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    return [*_same_conv(c_in, c_out, kernel), nn.ReLU(inplace=True)]


def _normed_conv(c_in: int, c_out: int, kernel: int, *, slope: float) -> list[nn.Module]:
    return [*_same_conv(c_in, c_out, kernel), nn.BatchNorm2d(c_out), nn.LeakyReLU(slope)]


def _same_conv(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    """Output as large as the input; an even kernel gets its odd row and column of zeros at the end, as in Keras."""
    before, after = (kernel - 1) // 2, kernel // 2
    return [nn.ZeroPad2d((before, after, before, after)), nn.Conv2d(c_in, c_out, kernel)]


def _dense(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Linear(c_in, c_out), nn.BatchNorm1d(c_out), nn.LeakyReLU(0.2), nn.Dropout(0.2)]
