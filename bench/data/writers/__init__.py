"""Writers: truth or predictions in the formats that other tools read. Each round trip keeps every pixel.

They take :class:`Annotated` images one after the other and hold one at a time.
"""

from bench.data.writers.base import Annotated, from_samples
from bench.data.writers.coco import write_coco, write_coco_results
from bench.data.writers.ctc import write_ctc_results
from bench.data.writers.kaggle import write_kaggle
from bench.data.writers.labels import write_label_images

__all__ = [
    "Annotated",
    "from_samples",
    "write_coco",
    "write_coco_results",
    "write_ctc_results",
    "write_kaggle",
    "write_label_images",
]
