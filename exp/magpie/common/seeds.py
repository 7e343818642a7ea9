"""Seeds of the parts of a run."""

from __future__ import annotations

import hashlib


def hashed_seed(seed: int, *parts: object) -> int:
    """Return a 31-bit seed for one part of a run: neighbouring replicas, starts and requests get different ones.

    With one seed for all, replicas and restarts of an engine return the same samples.
    """
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
