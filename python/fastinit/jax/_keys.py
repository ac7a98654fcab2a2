"""Keys of JAX as keys of fastinit: a contract, whose values are tested.

The words of a key are those of `jax.random.key_data`, or the elements of a legacy key.

* Two words (threefry): the seed is `words[0] * 2**32 + words[1]`, the stream is 0. So `jax.random.key(n)` is
  the seed `n`.
* Four words (rbg, unsafe_rbg): the seed is that of the first two. The stream is `words[2] * 2**32 +
  words[3]`, or 0 if the last two words equal the first two, as they do in `jax.random.key(n, impl="rbg")`.
* Any other number of words: the seed is the BLAKE2b hash (`digest_size=8`, little-endian) of the words as
  little-endian bytes, the stream is 0.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastinit._typing import Array


def seed_and_stream(words: Array) -> tuple[int, int]:
    """The seed and the stream of the words of one key."""
    if len(words) not in (2, 4):
        digest = hashlib.blake2b(np.asarray(words, "<u4").tobytes(), digest_size=8).digest()
        return int.from_bytes(digest, "little"), 0
    numbers = [high << 32 | low for high, low in zip(*[iter(words.tolist())] * 2, strict=True)]
    return numbers[0], 0 if numbers[-1] == numbers[0] else numbers[-1]
