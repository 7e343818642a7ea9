"""Run a command with a server, and end it when the server is gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Protocol

from magpie.common.console import MagpieError, again, log

GRACE_SECONDS = 30.0


class Serving(Protocol):
    """One server or several: how a command reaches them, and whether and why they have permanently failed."""

    api_key: str
    failed: threading.Event
    failure: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a program needs to use them."""

    @property
    def headless(self) -> bool:
        """True for a part of a model that another node serves."""


def serve(server: Serving, command: list[str]) -> int:
    """Run the command with the server and return its exit code, or serve until Ctrl-C.

    Raises:
        MagpieError: the server has failed for good.
    """
    if command:
        return run_command(command, server)
    if not server.headless:
        known = os.environ.get("MAGPIE_API_KEY") == server.api_key
        shown = ["MAGPIE_BASE_URL"] if known else ["MAGPIE_BASE_URL", "MAGPIE_API_KEY"]
        sys.stdout.write("".join(f"export {name}={server.environment[name]}\n" for name in shown))
        sys.stdout.flush()
    log.info("serving until Ctrl-C; paste the lines above into another shell")
    server.failed.wait()
    raise MagpieError(server.failure)


def run_command(command: list[str], server: Serving) -> int:
    """Run a command with the server's address in its environment and return its exit code.

    Raises:
        MagpieError: the command cannot be started, or the server has failed for good (the command is stopped then).
    """
    try:
        child = subprocess.Popen(command, env=os.environ | server.environment)  # noqa: S603
    except OSError as error:
        raise MagpieError(f"cannot run {command[0]} ({error.strerror}). Check the command after --") from error
    try:
        while child.poll() is None:
            if server.failed.wait(0.2):
                raise MagpieError(f"{server.failure}\nTo resume, {again()}")
    finally:
        end_tree(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end_tree(child: subprocess.Popen[bytes]) -> None:
    """End a process and all its descendants, first with SIGTERM. (Ctrl-C on a terminal has reached them already.)"""
    import psutil

    if child.poll() is not None:
        return
    parent = psutil.Process(child.pid)
    family = [*parent.children(recursive=True), parent]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()
