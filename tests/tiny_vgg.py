"""A VGG that is small in everything but the width of its last dense layer, by name for timm."""

from __future__ import annotations

from timm.models import register_model
from timm.models.vgg import VGG


@register_model
def vgg_tiny(pretrained: bool = False, *, num_classes: int, global_pool: str, in_chans: int, **_: object) -> VGG:
    """A VGG of two convolutions whose two dense layers are 32 and 4096 wide."""
    return VGG([8, "M", 16, "M"], num_classes, in_chans, global_pool=global_pool, mlp_ratio=1 / 128)
