"""Randomness that depends on (seed, stable key) alone, never on a worker, a bundle or the order of work."""

import hashlib

import numpy as np


def stable_hash(*keys: object, bits: int = 64) -> int:
    """A hash of `keys` that is the same in every process and on every machine.

    Keys are strings, numbers, or tuples of them; they are told apart by type, so 1 and "1" differ.
    """
    # ascii, not repr: which characters repr escapes depends on the Python version.
    digest = hashlib.blake2b("\x1f".join(map(ascii, keys)).encode(), digest_size=bits // 8)
    return int.from_bytes(digest.digest(), "little")


def stable_id(*keys: object, digits: int = 16) -> str:
    """`digits` hexadecimal digits that name `keys`: for ids on disk."""
    return format(stable_hash(*keys, bits=digits * 4), f"0{digits}x")


def generator(seed: int, *keys: object) -> np.random.Generator:
    """A random generator for one thing, for example `generator(seed, "mix", sentence_id, view)`."""
    return np.random.Generator(np.random.PCG64(stable_hash(seed, *keys, bits=128)))
