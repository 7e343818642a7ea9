"""Server addresses: the value of --base_url, and the files (`@FILE`) that list more and may change during a run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from magpie.common.console import MagpieError, log, printable


@dataclass(frozen=True)
class Connection:
    """How to reach the servers.

    Attributes:
        urls: base URLs.
        api_key: sent as a bearer token; empty: none is sent.
        gone: returns why the servers are permanently gone, or an empty string.
        files: files that list more base URLs.
        made_with: provenance of the responses (`runs.provenance`), if these programs started the servers.
    """

    urls: list[str]
    api_key: str
    gone: Callable[[], str]
    files: tuple[Path, ...] = ()
    made_with: dict[str, Any] = field(default_factory=dict)


def parse_addresses(base_url: str) -> tuple[list[str], tuple[Path, ...]]:
    """Return the URLs in `--base_url`, which are separated by commas, and the files among them (`@FILE`).

    Raises:
        MagpieError: a URL holds a password, or a file cannot be read.
    """
    parts = [part.strip() for part in base_url.split(",") if part.strip()]
    files = tuple(Path(part[1:]) for part in parts if part.startswith("@"))
    for file in files:
        read_addresses(file)
    return list(dict.fromkeys(_checked_url(part) for part in parts if not part.startswith("@"))), files


def read_addresses(file: Path) -> list[str]:
    """Return the URLs in a file: one per line; `#` starts a comment.

    Raises:
        MagpieError: a URL holds a password, or the file cannot be read.
    """
    try:
        if file.exists() and not file.is_file():
            raise MagpieError(f"--base_url @{printable(str(file))}: no file. It must list the servers' URLs, one per line")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text file"
        raise MagpieError(
            f"--base_url @{printable(str(file))}: {why}. The file must list the servers' URLs, one per line"
        ) from error
    urls = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(_checked_url(url) for url in urls if url))


def _checked_url(url: str) -> str:
    """Return a base URL without the route."""
    base = checked_url(url, "--base_url (MAGPIE_BASE_URL)")
    short = re.sub(r"(?<=[^/:])/(chat/)?completions$", "", base)
    if short != base:
        log.info("--base_url: %s is read as %s", printable(base), printable(short))
    return short


def checked_url(url: str, flag: str) -> str:
    """Return a base URL without a trailing slash.

    Raises:
        MagpieError: it is invalid, or may hold a key, which would be shown and stored with it; it is not in the message.
    """
    if "@" in url:
        raise MagpieError(f"{flag} holds a user name or password. Put the key into MAGPIE_API_KEY instead")
    if "?" in url or "#" in url:
        raise MagpieError(
            f"{flag} holds a ? or #, which may carry a key. Give the address alone, and the key in MAGPIE_API_KEY"
        )
    if not _is_readable(url):
        raise MagpieError(f"{flag}: '{printable(url, 200)}' is not a URL. Give one like http://host:8000/v1")
    return url.rstrip("/")


def _is_readable(url: str) -> bool:
    try:
        return urlsplit(url).port != 0 and url.isprintable() and not any(character.isspace() for character in url)
    except ValueError:  # a broken IPv6 address, an invalid port
        return False


class AddressFiles:
    """Files of addresses that may be edited during a run."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self._read_stamps: dict[Path, tuple[int, int]] = {}
        self._last_stamps: dict[Path, tuple[int, int]] = {}

    def __str__(self) -> str:
        return ", ".join(map(str, self._files))

    def __bool__(self) -> bool:
        return bool(self._files)

    def read(self) -> set[str]:
        """Return the URLs in all files.

        Raises:
            MagpieError: a URL holds a password, or a file cannot be read.
        """
        self._read_stamps = self._last_stamps = self._stamps()
        return {url for file in self._files for url in read_addresses(file)}

    def have_changed(self) -> bool:
        """Return whether they have changed since they were read, but not since the last call: nobody is writing now."""
        now = self._stamps()
        settled = now == self._last_stamps
        self._last_stamps = now
        return settled and now != self._read_stamps

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Return each file's modification time, in nanoseconds, and its size, in bytes."""
        stamps = {}
        for file in self._files:
            with contextlib.suppress(OSError):
                status = file.stat()
                stamps[file] = (status.st_mtime_ns, status.st_size)
        return stamps
