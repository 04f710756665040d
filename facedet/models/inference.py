"""Make a trained Faster R-CNN fast without changing what it finds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedet.models.faster_rcnn import FasterRCNN
from facedet.models.resnet import ConvNorm, fold_batch_norms
from facedet.models.winograd import WinogradConv


def prepare_for_inference(model: FasterRCNN, *, float32_cpu: bool = False) -> FasterRCNN:
    """Evaluation mode, batch norms folded into convolutions, memory laid out for speed; it cannot train again.

    float32_cpu: the model will only run in float32 on a CPU; then the backbone keeps its activations in oneDNN's
    blocked layout from stem to pyramid, and dense 3x3 convolutions use Winograd's algorithm.
    """
    model.eval().requires_grad_(False)
    fold_batch_norms(model)
    if not float32_cpu or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return model.to(memory_format=torch.channels_last)
    for level in range(2, 6):
        output, lateral = f"fpn_output{level}", f"fpn_lateral{level}"
        setattr(model.backbone, output, _winograd(model.backbone.get_submodule(output)))
        setattr(model.backbone, lateral, _blocked(model.backbone.get_submodule(lateral), dense_output=True))
    head = model.proposal_generator.rpn_head
    head.conv = _winograd(head.conv)
    _block_convolutions(model.backbone.bottom_up)
    return model


def _winograd(conv: nn.Module) -> nn.Module:
    if isinstance(conv, nn.Conv2d) and getattr(conv, "norm", None) is None:
        return WinogradConv(conv)
    return conv


def _blocked(conv: nn.Module, *, dense_output: bool) -> nn.Module:
    if isinstance(conv, ConvNorm) and conv.norm is None:
        return BlockedConv(conv, dense_output=dense_output)
    return _ThroughDense(conv)


def _block_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, _blocked(child, dense_output=False))
        else:
            _block_convolutions(child)


class BlockedConv(nn.Module):
    """A convolution without norm over oneDNN's blocked tensors; dense input is converted, dense output on request."""

    def __init__(self, conv: ConvNorm, *, dense_output: bool) -> None:
        super().__init__()
        margin, step = conv.kernel_size[0] // 2, conv.stride[0]
        self._padding, self._stride, self._groups = [margin, margin], [step, step], conv.groups
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
            conv.weight.detach().to_mkldnn(), self._padding, self._stride, [1, 1], self._groups
        )
        self._bias = None if conv.bias is None else conv.bias.detach().to_mkldnn()
        self._dense_output = dense_output

    def forward(self, x: Tensor) -> Tensor:
        x = x if x.is_mkldnn else x.to_mkldnn()
        out = F.conv2d(x, self._weight, self._bias, self._stride, self._padding, 1, self._groups)
        return out.to_dense() if self._dense_output else out


class _ThroughDense(nn.Module):
    """A part that blocked tensors cannot pass (group norm): converted before, and after where the input was blocked."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.to_dense() if x.is_mkldnn else x)
        return out
