"""One server of a pool: its window of requests, its state, and its counts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from magpie.common.console import log, printable

BACK_OFF_SECONDS = 5.0
"""How long a server that is down gets no requests."""
QUIET_SECONDS = 60.0
"""Minimum time between two messages that a server is down."""


@dataclass(eq=False)
class Endpoint:
    """One server.

    Its window, the number of requests that it takes at once, follows AIMD: a 429 halves it, every success widens it a little,
    up to `max_window`.

    Attributes:
        url: its base URL.
        max_window: requests in flight at most.
        probed: a probe found that it can do the work.
        excluded: it gets no new requests.
        in_flight: requests that it has not answered yet.
        down_since: when it was first found down (monotonic seconds); None: it is up.
        completions, tokens: what it has written so far.
    """

    url: str
    max_window: int
    probed: bool = False
    excluded: bool = False
    in_flight: int = 0
    down_since: float | None = None
    completions: int = 0
    tokens: int = 0
    window: float = field(init=False)
    _halved_at: float = -math.inf
    _failed_at: float = -math.inf
    _reported_at: float = -math.inf

    def __post_init__(self) -> None:
        self.open(self.max_window)

    def open(self, window: int) -> None:
        """Set the number of requests that it may have in flight."""
        self.max_window, self.window = window, float(window)

    @property
    def is_ready(self) -> bool:
        """Whether work can be sent without a probe."""
        return self.probed and self.down_since is None

    @property
    def has_room(self) -> bool:
        """Whether its window has room for another request."""
        return self.in_flight + 1 <= self.window

    @property
    def is_backing_off(self) -> bool:
        """Whether it was down a moment ago, or another request is probing it."""
        if self.down_since is None:
            return False
        return self.in_flight > 0 or time.monotonic() - self._failed_at < BACK_OFF_SECONDS

    def succeeded(self, tokens: int) -> None:
        """Count a completion and open the window a little."""
        self.completions += 1
        self.tokens += tokens
        self.window = min(self.max_window, self.window + 1 / self.window)

    def rate_limited(self, sent_at: float) -> None:
        """Halve the window for a 429, once for all requests that were sent before the last halving."""
        if sent_at > self._halved_at:
            self._halved_at = time.monotonic()
            self.window = max(1.0, min(self.window, self.in_flight) / 2)

    def mark_down(self, why: str) -> None:
        """Note that no server answers, and start backing off."""
        now = self._failed_at = time.monotonic()
        if self.down_since is None:
            self.down_since = now
            if now - self._reported_at > QUIET_SECONDS:  # behind a load balancer a dead server fails every other request
                self._reported_at = now
                log.warning("%s is down (%s); waiting for it", printable(self.url), why)

    def mark_up(self) -> None:
        """Note that the server answers."""
        if self.down_since is not None and time.monotonic() - self.down_since > BACK_OFF_SECONDS:
            log.info("%s is up again", printable(self.url))
        self.down_since = None
