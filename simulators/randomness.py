"""Random numbers that belong to a shopper: a function of (shopper's seed, step, stream), not of the batch.

So a batch of B shoppers behaves exactly like B single ones, in any order and on any device, and two policies that meet
the same seeds meet the same shoppers with the same luck (common random numbers).

Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]

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
    draw = _uniform_on_cpu if seed.device.type == "cpu" else _uniform_anywhere
    return draw(seed, step, stream, n)


def _uniform_anywhere(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    base = mix(seed * _GOLDEN + stream + 1)
    base = mix(base + _wrapped((step + 1) * _GOLDEN))
    places = torch.arange(1, n + 1, dtype=torch.int64, device=seed.device)
    bits = _shifted(mix(base[:, None] + places * _GOLDEN), 41)  # 23 bits, so that float32 never rounds up to 1
    return (bits.to(torch.float32) + 0.5) * 2.0**-23


# The same numbers on the CPU, by NumPy and in place: torch has no shift of unsigned words, and where shoppers are few,
# nearly all the time of its forty small operations is spent on calling them.

_GOLDEN_WORD, _WORD_1, _WORD_2 = (np.uint64(number % 2**64) for number in (_GOLDEN, _MIX_1, _MIX_2))
_SHIFT_1, _SHIFT_2, _SHIFT_3, _SHIFT_OUT = (np.uint64(by) for by in (30, 27, 31, 41))
_ONE, _HALF, _UNIT = np.uint64(1), np.float32(0.5), np.float32(2.0**-23)
_ALL, _M1, _M2 = 2**64 - 1, _MIX_1 % 2**64, _MIX_2 % 2**64
_A_FEW = 32  # numbers
_GOLDEN_PLACES = [place * _GOLDEN for place in range(1, _A_FEW + 1)]
_PLACES = np.arange(1, 257, dtype=np.uint64) * _GOLDEN_WORD


def _uniform_on_cpu(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    if len(seed) == 1 and n <= _A_FEW:
        return _uniform_of_one(int(seed), int(step), stream, n)
    base = seed.numpy().astype(np.uint64)
    base *= _GOLDEN_WORD
    base += np.uint64(stream + 1)
    _mix_in_place(base)
    if isinstance(step, int):
        base += np.uint64((step + 1) * int(_GOLDEN_WORD) % 2**64)
    else:
        base += (step.numpy().astype(np.uint64) + _ONE) * _GOLDEN_WORD
    _mix_in_place(base)
    places = _PLACES[:n] if n <= len(_PLACES) else np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN_WORD
    words = base[:, None] + places
    _mix_in_place(words)
    words >>= _SHIFT_OUT
    numbers = words.astype(np.float32)
    numbers += _HALF
    numbers *= _UNIT
    return torch.from_numpy(numbers)


def _uniform_of_one(seed: int, step: int, stream: int, n: int) -> Tensor:
    """(1, n) the numbers of one shopper, by Python's own integers: so few cost less than the calls of NumPy."""
    base = _mixed(_mixed(seed * _GOLDEN + stream + 1) + (step + 1) * _GOLDEN)
    numbers = [((_mixed(base + place) >> 41) + 0.5) * 2.0**-23 for place in _GOLDEN_PLACES[:n]]
    return torch.from_numpy(np.array([numbers], np.float32))


def _mixed(bits: int) -> int:
    """As `mix`, of one integer of any size, in [0, 2**64)."""
    bits &= _ALL
    bits = (bits ^ (bits >> 30)) * _M1 & _ALL
    bits = (bits ^ (bits >> 27)) * _M2 & _ALL
    return bits ^ (bits >> 31)


def _mix_in_place(words: Words) -> None:
    """As `mix`."""
    shifted = words >> _SHIFT_1
    words ^= shifted
    words *= _WORD_1
    words ^= np.right_shift(words, _SHIFT_2, out=shifted)
    words *= _WORD_2
    words ^= np.right_shift(words, _SHIFT_3, out=shifted)


def normal(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    """(B, n) float32 standard normal numbers of each shopper; arguments as for `uniform`."""
    return torch.special.ndtri(uniform(seed, step, stream, n))


def gumbel(seed: Tensor, step: Tensor | int, stream: int, n: int) -> Tensor:
    """(B, n) float32 standard Gumbel numbers of each shopper; arguments as for `uniform`."""
    return -torch.log(-torch.log(uniform(seed, step, stream, n)))
