"""The generator in NumPy, written from the paper: a reference that shares no code with the package.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib

import numpy as np

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox4x32(counter, key):
    """The four words of each counter; both have their words, as uint64, along the first axis."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint64)
    k0, k1 = np.asarray(key, np.uint64)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & LOW, (k1 + np.uint64(0xBB67AE85)) & LOW
    return np.array([c0, c1, c2, c3])


def stream_of(name):
    """The stream that a name stands for."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def words(first, count, *, seed, stream=0):
    """Words number `first` to `first + count - 1` of a seed and a stream, as uint32."""
    stream = stream_of(stream) if isinstance(stream, str) else stream
    blocks = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    high, low = divmod(stream, 2**32)
    counter = np.array([blocks & LOW, blocks >> HALF, np.full_like(blocks, low), np.full_like(blocks, high)])
    made = philox4x32(counter, [seed % 2**32, seed // 2**32]).T.ravel()
    return made[first % 4 :][:count].astype(np.uint32)


def doubled_words(first, count, *, seed, stream=0):
    """The same in pairs, low half first, as uint64."""
    low, high = words(2 * first, 2 * count, seed=seed, stream=stream).astype(np.uint64).reshape(-1, 2).T
    return low | high << HALF
