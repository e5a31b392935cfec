"""Random numbers on any device as functions of a counter: Philox4x32-10 in torch's integers.

The words are exact, so that they are the same on every device, in every order and compiled or not;
normal values made of them agree between kinds of devices to rounding. Source: Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math
import sys
from functools import cache

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
INCREMENTS = (0x9E3779B9, 0xBB67AE85)  # of the key, after every round
ROUNDS = 10
HALVES = 1 << 16  # a decision takes half of a word
# (counter, key, words) of the authors' Random123: what any implementation must give.
KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def philox4x32(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Four random words of each counter and key: 4 and 2 int64 tensors of values below 2^32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # A product wraps around at 2^64, which leaves all of its bits right.
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((second >> 32) & WORD) ^ c1 ^ k0,
            second & WORD,
            ((first >> 32) & WORD) ^ c3 ^ k1,
            first & WORD,
        )
        k0, k1 = (k0 + INCREMENTS[0]) & WORD, (k1 + INCREMENTS[1]) & WORD
    return c0, c1, c2, c3


def _words(streams: Tensor, number: Tensor, block: Tensor) -> tuple[Tensor, ...]:
    k0, k1, c2, c3 = streams.T.unsqueeze(2)
    return philox4x32((block + 0 * c2, number + 0 * c2, c2, c3), (k0, k1))


def words(streams: Tensor, number: Tensor, count: int) -> tuple[Tensor, ...]:
    """The first 4 * count words of draw `number` of each stream: four int64 [B, count].

    streams: [B, 4] int64, each row the words of a key; number: [B] or [1] int64.
    """
    block = torch.arange(count, device=streams.device)
    function = _compiled() if streams.is_cuda else _words
    return function(streams, number.view(-1, 1), block)


def normal(streams: Tensor, number: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal values of draw `number` of each stream: [B, *shape] float32 (Box-Muller)."""
    size = math.prod(shape)
    drawn = words(streams, number, -(-size // 4))
    values = []
    for radius, angle in (drawn[:2], drawn[2:]):
        # Shares in (0, 1]: no logarithm of 0.
        length = (radius.float() * 2**-32 + 2**-33).log().mul_(-2).sqrt_()
        turn = angle.float() * (2 * math.pi * 2**-32)
        values += [length * turn.cos(), length * turn.sin()]
    return torch.stack(values, dim=2).flatten(1)[:, :size].reshape(-1, *shape)


def kept(streams: Tensor, number: Tensor, shape: tuple[int, ...], *, dropped: float) -> Tensor:
    """Dropout's factors of draw `number` of each stream: [B, *shape] float32, 0 or 1 / share kept.

    dropped: in [0, 1), rounded to a multiple of 2^-16; the expected factor is exactly 1.
    """
    size, limit = math.prod(shape), round(dropped * HALVES)
    drawn = words(streams, number, -(-size // 8))
    halves = torch.stack([half for word in drawn for half in (word & 0xFFFF, word >> 16)], dim=2)
    factors = (halves >= limit) * (HALVES / (HALVES - limit))
    return factors.flatten(1)[:, :size].reshape(-1, *shape)


@cache
def _compiled():
    """`_words` as one kernel where the compiler gives the known answers, else as it is."""
    streams, number, block, known = _known_answers("cuda")
    function = torch.compile(_words, dynamic=True)
    try:
        for column in range(4):
            if not torch.equal(function(streams, number, block)[column], known[column]):
                raise RuntimeError("other numbers than the published ones")
    except Exception as error:  # any trouble of a compiler: nothing depends on it but time
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"philox: not compiled ({reason}); slower, same numbers", file=sys.stderr)
        return _words
    return function


def _known_answers(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(streams, number, block, words [4, n, n]); the diagonal of the words has the vectors.

    All counters of all keys are asked for, and computed uncompiled where nothing is published.
    """
    keys = [(*key, counter[2], counter[3]) for counter, key, _ in KNOWN]
    streams = torch.tensor(keys, device=device)
    number = torch.tensor([counter[1] for counter, _, _ in KNOWN], device=device).view(-1, 1)
    block = torch.tensor([counter[0] for counter, _, _ in KNOWN], device=device)
    return streams, number, block, torch.stack(_words(streams, number, block))
