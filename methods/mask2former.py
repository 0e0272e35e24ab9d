"""Mask2Former, MMDetection's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule
from methods._zoo import SMOKE, ZooMethod


class Mask2Former(ZooMethod):
    """Mask2Former R50: queries that attend to the pixels of their own masks."""

    name = "mask2former"
    title = "Mask2Former R50"
    summary = "Transformer decoder with masked attention; a set of queries, each a class and a mask."
    paper = Paper(
        "Masked-attention Mask Transformer for Universal Image Segmentation",
        "Cheng, Misra, Schwing, Kirillov, Girdhar",
        2022,
        "CVPR",
        "https://arxiv.org/abs/2112.01527",
    )
    coco_config = "mask2former/mask2former_r50_8xb2-lsj-50e_coco"
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=50, batch_size=16, note="MMDetection's 50 epochs, batch 16, AdamW 1e-4"),
        "short": Schedule(iterations=1500, batch_size=2, note="learning rate scaled linearly with the batch"),
        "smoke": SMOKE,
    }
    deviations = (
        "From random weights, group normalisation in the backbone and no frozen stage, as in He et al. 2019.",
        "No large-scale jitter: resize and flip, as for every method here.",
        "As many queries as the densest image has objects and a fifth more, instead of 100, and as many detections.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
    )

    @dataclass(frozen=True)
    class Params(ZooMethod.Params):
        """Settings, those of every stock network beside them.

        Attributes:
            queries: masks that are predicted (100); 0: by the data set's densest image, 300 where it is unknown.
            depth: of the ResNet (50).
            channels: of the pixel decoder and the queries (256).
            encoder_layers: of the pixel decoder (6).
            decoder_layers: of the transformer decoder (9).
            points: sampled from each mask for its loss (12544).
        """

        queries: int = 0
        depth: int = 50
        channels: int = 256
        encoder_layers: int = 6
        decoder_layers: int = 9
        points: int = 12544

    def adapt(self, model: Any) -> None:
        """Queries for every object of the densest image, and the size of the network."""
        p, head = self.params, model.panoptic_head
        decoder, pixels = head.transformer_decoder, head.pixel_decoder
        densest = self.task.objects.per_image_max if self.task.objects else 250
        head.num_queries = p.queries or max(100, -(-6 * densest // 5))
        model.backbone.depth = p.depth
        if p.depth < 50:
            head.in_channels = [64, 128, 256, 512]
        head.feat_channels = head.out_channels = p.channels
        pixels.encoder.num_layers, decoder.num_layers = p.encoder_layers, p.decoder_layers
        layers = pixels.encoder.layer_cfg, decoder.layer_cfg
        for attention in (part for layer in layers for name, part in layer.items() if name.endswith("attn_cfg")):
            attention.embed_dims = p.channels
        for layer in layers:
            widened = layer.ffn_cfg.feedforward_channels // layer.ffn_cfg.embed_dims
            layer.ffn_cfg.update(embed_dims=p.channels, feedforward_channels=widened * p.channels)
        pixels.positional_encoding.num_feats = head.positional_encoding.num_feats = p.channels // 2
        model.train_cfg.num_points = p.points
