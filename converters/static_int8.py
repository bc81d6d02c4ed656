"""Static int8 layers as integer kernels take them, in any runtime: int32 biases, products scaled by less than 256.

    int8 x int8 ── int32 sum + bias / (input scale * weight scale) ── times input scale * weight scale / output scale

Both limits are met by every layer of a usual model. Weights that vanish beside their bias would exceed the first, and
outputs that calibration saw next to nothing of the second.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ferrule.codec import Affine, Range

if TYPE_CHECKING:
    from ferrule.converters.coded_sites import CodedSite

__all__ = ["fit_kernels", "static_refusal"]

_LARGEST_BIAS = 2.0**30
_LARGEST_RATIO = 128.0  # XNNPACK refuses 256 or more


def static_refusal(site: CodedSite) -> str | None:
    """Why integer kernels cannot hold a site with static activations, or None."""
    codec = site.codec
    if site.ranges is None or not isinstance(codec, Affine):
        return None
    if codec.bits != 8:
        return "its kernels for int8 activations of a fixed range take int8 weights only"
    return "its kernels for int8 activations of a fixed range take one scale a row" if codec.group else None


def fit_kernels(site: CodedSite) -> CodedSite:
    """The site within the kernels' limits: the same one, unless a bias or an output's scale has to be brought in.

    A row whose bias exceeds int32 gets a larger scale and the codes that are nearest under it, which moves the output
    by far less than one of its steps. An output scale too fine for the products becomes coarser.
    """
    import torch

    if site.ranges is None or not isinstance(site.codec, Affine):
        return site
    source, target = site.ranges
    codec = site.codec
    if site.bias is not None:
        least = site.bias.detach().abs().float().unsqueeze(1) / (source.scale * _LARGEST_BIAS)
        beyond = least > codec.scales
        if bool(beyond.any()):
            scales = torch.where(beyond, least, codec.scales)
            codes = (codec.codes * (codec.scales / scales)).round().to(torch.int8)
            codec = replace(codec, codes=codes, scales=scales)
    least_scale = source.scale * float(codec.scales.max()) / _LARGEST_RATIO
    if least_scale > target.scale:
        target = Range(least_scale, target.zero_point)
    if codec is site.codec and target is site.ranges[1]:
        return site
    return replace(site, codec=codec, ranges=(source, target))
