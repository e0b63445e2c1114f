"""Random numbers that belong to a shopper: a function of (shopper's seed, step, stream), not of the batch.

So a batch of B shoppers behaves exactly like B single ones, in any order and on any device, and two policies that meet
the same seeds meet the same shoppers with the same luck (common random numbers).

Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17.
"""

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Logical right shift of int64 bits."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def mix(bits: Tensor) -> Tensor:
    """The SplitMix64 finaliser: a bijection of int64 that scatters neighbouring inputs."""
    bits = (bits ^ _shifted(bits, 30)) * _MIX_1
    bits = (bits ^ _shifted(bits, 27)) * _MIX_2
    return bits ^ _shifted(bits, 31)


def _wrapped(product: Tensor | int) -> Tensor | int:
    """Python's integers do not overflow and torch takes none past 64 bits; tensors wrap around by themselves."""
    return (product + 2**63) % 2**64 - 2**63 if isinstance(product, int) else product


def uniform(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    """Uniform numbers of each shopper.

    Args:
        seed: (B,) int64 seeds of the shoppers.
        step: (B,) int64 or int: the slate number, or any other counter.
        stream: which use of the numbers this is, so that uses stay independent; in [0, 2**16).
        n: numbers a shopper.

    Returns:
        (B, n) float32, strictly inside (0, 1).
    """
    base = mix(seed * _GOLDEN + stream + 1)
    base = mix(base + _wrapped((step + 1) * _GOLDEN))
    places = torch.arange(1, n + 1, dtype=torch.int64, device=seed.device)
    bits = _shifted(mix(base[:, None] + places * _GOLDEN), 41)  # 23 bits, so that float32 never rounds up to 1
    return (bits.to(torch.float32) + 0.5) * 2.0**-23


def normal(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    """(B, n) float32 standard normal numbers of each shopper; arguments as for `uniform`."""
    return torch.special.ndtri(uniform(seed, step, stream, n))


def gumbel(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    """(B, n) float32 standard Gumbel numbers of each shopper; arguments as for `uniform`."""
    return -torch.log(-torch.log(uniform(seed, step, stream, n)))
