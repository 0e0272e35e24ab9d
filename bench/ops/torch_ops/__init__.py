"""mmcv's operators in plain torch, under the names and with the arguments of ``mmcv._ext``.

They work for every floating type, hold a bounded amount of memory, and on the CPU give the same bits on every run. They
are written for any device, but tested and measured on the CPU only: on a GPU, where mmcv has kernels compiled for it,
or torchvision fits, those serve.
"""

from bench.ops import deform_interface
from bench.ops.torch_ops import attention, deform_conv, focal_loss, nms, roi_align

OPERATORS = {
    operator.__name__: operator
    for operator in (
        attention.ms_deform_attn_backward,
        attention.ms_deform_attn_forward,
        focal_loss.sigmoid_focal_loss_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.softmax_focal_loss_backward,
        focal_loss.softmax_focal_loss_forward,
        nms.nms,
        nms.softnms,
        roi_align.roi_align_backward,
        roi_align.roi_align_forward,
    )
} | deform_interface.operators(deform_conv.convolve, deform_conv.differentiate)
"""Every operator, by its name in ``mmcv._ext``."""
