"""Messages, errors, and the way a program ends.

Messages go to the standard error and, where `MAGPIE_LOG` names a file, into that log with a time stamp. What a model
wrote is shown only through `printable`: a terminal must not obey it.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from magpie.common import events, outcome
from magpie.common.masking import masked

log = logging.getLogger("magpie")
file_log = logging.getLogger("magpie-file")
"""Logger for the file of `MAGPIE_LOG` only: the screen shows the same in another form."""

PARENT = "MAGPIE_PARENT"
PR_SET_PDEATHSIG = 1
_resumes: list[bool] = []
EXIT_ERROR = 2
EXIT_CEILING = 4
EXIT_INTERRUPTED = 130


def again() -> str:
    """Return how to resume after this program has stopped."""
    how = ": it resumes where it stopped" if _resumes else ""
    return f"rerun the same command{' without --overwrite' if _resumes and '--overwrite' in sys.argv else ''}{how}"


def resumes() -> None:
    """Note that this program resumes where it stopped when it is rerun."""
    _resumes.append(True)


class MagpieError(Exception):
    """An error that the user can fix: what happened, where, and what to do about it."""


class CeilingReached(Exception):
    """The run has reached its ceiling (`client/ceiling.py`); the message names the limit. Finished work is kept."""


class NothingToDo(Exception):
    """There is nothing to do; the message says why. Not an error."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived. A KeyboardInterrupt, which asyncio never swallows."""


def printable(text: str, limit: int | None = None) -> str:
    """Return the text without our keys and terminal control characters, cut to `limit` characters."""
    text = masked(text)
    if limit is not None and len(text) > limit:
        text = text[:limit].rstrip() + " …"
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\t", "    "))


class _Formatter(logging.Formatter):
    """Masks our keys in everything that is logged."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def set_up_logging(program: str) -> None:
    """Send the `magpie` logger to the standard error and to the file that `MAGPIE_LOG` names, if any."""
    screen = logging.StreamHandler()
    screen.setFormatter(_Formatter(f"{program}: %(message)s"))
    log.handlers = [screen]  # set first, to show an error about the file below
    files: list[logging.Handler] = []
    if path := os.environ.get("MAGPIE_LOG"):
        if Path(path).suffix in (".jsonl", ".json", ".gz", ".csv", ".parquet", ".part"):
            raise MagpieError(f"MAGPIE_LOG: {path} has the name of a data file, and log lines would be written into it")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        files = [logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")]
        files[0].setFormatter(_Formatter(f"%(asctime)s {program}: %(message)s"))
    for logger, handlers in ((log, [screen, *files]), (file_log, files or [logging.NullHandler()])):
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = handlers


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # we are ending already; a second one would break that, and kill -9 loses nothing
    raise Interrupted(signal.Signals(number).name)


def end_with_parent() -> None:
    """Get SIGTERM when the process that started this one ends, however it ends, if it requested that (`PARENT`; Linux)."""
    parent = os.environ.pop(PARENT, "")
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent != str(os.getppid()):  # it has already ended
        os.kill(os.getpid(), signal.SIGTERM)


def run_program(program: str, main: Callable[[], int | None]) -> None:
    """Run a program's `main` and exit: 0, 2 with one line for a `MagpieError`, 4 at a ceiling, 130 when interrupted.

    Any other exception is a bug of ours and keeps its traceback (in the log too), with exit code 1.
    """
    signal.signal(signal.SIGINT, _raise_interrupted)
    signal.signal(signal.SIGTERM, _raise_interrupted)
    code: int | None
    try:
        _resumes.clear()
        end_with_parent()
        set_up_logging(program)
        code = main() or 0
        outcome.write()
    except NothingToDo as why:
        if str(why):
            log.info("%s", why)
        outcome.write()
        code = 0
    except CeilingReached as why:
        log.warning("partial: ceiling (%s). What is finished is on disk. To continue, raise it and %s", why, again())
        outcome.write()
        code = EXIT_CEILING
    except MagpieError as error:
        log.error("error: %s", error)
        code = EXIT_ERROR
    except KeyboardInterrupt as why:
        log.error("interrupted (%s). To resume, %s", why, again())
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_INTERRUPTED  # the reader of our output is gone (`… | head`)
    except OSError as error:
        log.error("error: %s", explain_os_error(error))
        code = EXIT_ERROR
    except Exception:
        log.exception("error: this is a bug in %s; please report it with the lines below", program)
        code = 1
    events.end(code)
    logging.shutdown()
    sys.exit(code)


def say_next(command: str, *values: object) -> None:
    """Log the command that usually comes next, unless exp/run_job.py runs it anyway."""
    if not outcome.is_asked():
        log.info(f"next: python exp/{command}", *values)


def explain_os_error(error: OSError) -> str:
    """Return one line for a system error, with the remedy for the usual ones."""
    remedies = {
        errno.ENOSPC: f"the disk is full. Free some space and {again()}",
        errno.EDQUOT: f"your disk quota is used up. Free some space and {again()}",
        errno.EFBIG: f"the file-size limit is reached (ulimit -f). Raise it and {again()}",
        errno.EACCES: "no permission. Choose another file or folder, or change the permissions",
        errno.EROFS: "the file system is read-only. Choose another folder",
        errno.ENOENT: "no such file or folder. Check the path",
        errno.EISDIR: "this is a folder. Name a file",
        errno.ENOTDIR: "a part of this path is a file, not a folder. Check the path",
    }
    where = f"{error.filename}: " if error.filename else ""
    return where + remedies.get(error.errno or 0, error.strerror or str(error))
