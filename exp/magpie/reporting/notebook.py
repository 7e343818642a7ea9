"""Helpers of demo_production.ipynb: launchers in cells, one server for all of them, records with rendered mathematics.

`python -m magpie.reporting.notebook demo_production.ipynb` runs a notebook and stores its outputs in it
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from magpie.config.load import PROJECT
from magpie.records.reading import read_rows
from magpie.reporting.math_html import formulas, markdown
from magpie.reporting.samples import Sample, pair_sample, sample_of
from magpie.serving.server import MADE_WITH

if TYPE_CHECKING:
    from IPython.display import Markdown

Record = dict[str, Any]
PYTHON = PROJECT / ".venv" / "bin" / "python"
TEXT_CHARACTERS = 1200
PANEL = ("╭", "│", "╰")
"""Beginnings of the lines of examples that stages print: a notebook shows records itself."""
ENDING_SECONDS = 60.0
TELL = 'env | grep ^MAGPIE_; echo; exec cat >"/dev/null"'
"""Command that keeps the server up: it prints the server's address, and ends with its standard input, so with the notebook."""

_servers: list[subprocess.Popen[str]] = []


def run(*command: object, **settings: object) -> None:
    """Run a launcher (*.sh) or a program (*.py) as in a terminal in the project's folder, with settings in its environment.

    Raises:
        RuntimeError: it failed; its output is above.
    """
    words = [str(word) for word in command]
    environment = {name: str(value) for name, value in settings.items()}
    shell = "bash" if words[0].endswith(".sh") else "python"
    line = shlex.join([*(f"{name}={value}" for name, value in environment.items()), shell, *words])
    print("$", short(line))
    process = subprocess.Popen(  # noqa: S603 - the user's own settings
        [shell if shell == "bash" else str(PYTHON), *words],
        cwd=PROJECT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # an interrupted cell passes that on once, below, and waits
    )
    with ending(process):
        for text in process.stdout or ():
            if not text.startswith(PANEL):
                print(short(text.rstrip()), flush=True)
        if process.wait() != 0:
            raise RuntimeError(f"{words[0]} ended with the exit code {process.returncode}: see above")


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process and its children if the block is left early, by an interrupt, like Ctrl-C."""
    try:
        yield
    finally:
        if process.poll() is None:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """Stop a process and its children."""
    for number, seconds in ((signal.SIGINT, ENDING_SECONDS), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return


def short(text: str) -> str:
    """Return a text without the path of the project's folder."""
    return text.replace(f"{PROJECT}/", "")


def serve(model: str, log_dir: Path) -> None:
    """Load a model once, for everything run after this. A server named in MAGPIE_BASE_URL is used as it is.

    The server ends with `end_server` or with the notebook, however it ends.

    Raises:
        RuntimeError: it did not start; the message has the end of its output.
    """
    if os.environ.get("MAGPIE_BASE_URL"):
        print("the server in use:", os.environ["MAGPIE_BASE_URL"])
        return
    end_server()  # the cell is run again
    log_dir.mkdir(parents=True, exist_ok=True)
    output = log_dir / "serve.log"
    print(f"loading {model}; log: {short(str(output))}", flush=True)
    started = time.monotonic()
    with output.open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - the user's own model
            [str(PYTHON), "exp/serve.py", model, "--log_dir", str(log_dir), "--", "sh", "-c", TELL],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    address = {}
    try:
        for line in iter(cast("IO[str]", process.stdout).readline, "\n"):
            if not line:
                raise RuntimeError(f"the server did not start: {short(output.read_text()[-1000:])}")
            name, _, value = line.strip().partition("=")
            address[name] = value
    except BaseException:
        stop(process)
        raise
    _servers.append(process)
    os.environ |= address
    print(f"the server is up after {time.monotonic() - started:.0f} s")


def end_server() -> None:
    """Stop the server that `serve` started, if any."""
    while _servers:
        stop(_servers.pop())
        for name in ("MAGPIE_BASE_URL", "MAGPIE_API_KEY", "MAGPIE_SERVE_PID", MADE_WITH):
            os.environ.pop(name, None)


def pick(path: Path, **wanted: object) -> Record | None:
    """Return the record with the most formulas (else the first) among those in a file that have the wanted values."""
    if not path.exists():  # for instance, nothing was dropped
        return None
    rows = (row.record for row in read_rows(path, ()) if row.record is not None)
    fitting = (record for record in rows if all(record.get(key) == value for key, value in wanted.items()))
    return max(
        fitting, key=lambda record: sum(formulas(text[:TEXT_CHARACTERS]) for _, text, _ in _sample(record).texts), default=None
    )


def _sample(record: Record) -> Sample:
    return pair_sample(record) if "chosen" in record else sample_of(record)


def show(record: Record | None, title: str = "") -> Markdown:
    """Show a record, or a pair, with rendered mathematics; model output is text and formulas, never markup."""
    from IPython.display import Markdown

    if record is None:
        return Markdown(f"*{title or 'record'}: none in this run*")
    sample = _sample(record)
    parts = [f"**{title}**"] if title else []
    parts += [" · ".join(f"{name}: {markdown(value)}" for name, value in [("id", sample.title), *sample.labels])]
    for name, text, length in sample.texts:
        cut = f" *… {length - TEXT_CHARACTERS} more characters*" if length > TEXT_CHARACTERS else ""
        parts.append(f"**{name}**<br>{markdown(text[:TEXT_CHARACTERS])}{cut}")
    return Markdown("\n\n> ".join(["> " + parts[0], *parts[1:]]).replace("\n\n>", "\n>\n>"))


def main() -> None:
    """Run a notebook and write it with its outputs; one that fails is left unchanged."""
    import nbformat
    from nbclient import NotebookClient

    path = Path(sys.argv[1])
    book = nbformat.read(path, as_version=4)
    settings: dict[str, Any] = {"timeout": None, "record_timing": False, "coalesce_streams": True}
    NotebookClient(book, resources={"metadata": {"path": str(path.resolve().parent)}}, **settings).execute()
    nbformat.write(book, path)


if __name__ == "__main__":
    main()
