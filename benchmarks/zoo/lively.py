"""Random weights under which every layer matters, so that a proof can tell right from wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["enliven", "settle"]


def enliven(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights anew, in place, and return the module in evaluation mode.

    Fresh networks hide most of themselves: layer scales of 1e-6, last norms of zero and embeddings of deviation 0.02
    leave the residual stream nearly untouched by whole blocks, and a conversion that broke them would still agree.
    Matrices and kernels get the deviation 1 / sqrt(fan in), embeddings 1, scales lie in [0.5, 1.5], offsets around
    zero. Networks with batch norms need `settle` afterwards.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.is_floating_point():
                parameter.copy_(_draw(name, parameter, id(parameter) in tables, generator))
    return module.eval()


def _draw(name: str, parameter: Tensor, table: bool, generator: torch.Generator) -> Tensor:
    noise = torch.randn(parameter.shape, generator=generator)
    constant = bool((parameter == parameter.flatten()[0]).all())
    if table:
        return noise
    if parameter.dim() >= 2 and not constant:
        one_of = parameter.dim() == 3 and parameter.shape[0] == 1  # a token or positions, added to every example
        return noise * 0.5 if one_of else noise / parameter[0].numel() ** 0.5
    if name.endswith("bias") or (constant and bool(parameter.flatten()[0] == 0)):
        return noise * 0.1
    return torch.rand(parameter.shape, generator=generator) + 0.5


def settle(module: nn.Module, inputs: Tensor) -> nn.Module:
    """Give batch norms the statistics of a batch of inputs, in place; with others an answer fades to a constant.

    Channels that the random weights left nearly constant keep a variance of 0.25, lest rounding be blown up by them.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        module(inputs)
        for norm in norms:
            norm.running_var.clamp_(min=0.25)
    return module.eval()
