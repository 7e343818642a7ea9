"""The warm process in which programs run: it has imported NumPy and SymPy, and forks a walled-off child for each program.

Started by `sandbox.py`, inside bubblewrap or by itself, with an empty environment: it may import only the standard library.
Reads requests from its standard input and writes one reply to each: a line of JSON, in which a request says {program, seconds,
memory, output, files} (processor seconds, bytes), a reply {state, output, error, seconds}. Its first line says {"ready": true},
or {"refused": why}.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from typing import Any

from magpie.sandbox import kernel

WALL_FACTOR, WALL_SPARE = 2.0, 1.0
"""Wall-clock seconds per CPU second, and on top: a busy machine is not the program's fault."""
RAN, FAILED, TIMED_OUT, TOO_MUCH, KILLED = "ran", "failed", "timed_out", "too_much_output", "killed"
BOX = "/box"
LAST_CHARACTERS = 300
BASE = 768 << 20
"""Bytes of address space of the interpreter with its imports, not counted against a program."""


def enter_walls(shown: list[str], root: str) -> None:
    """Enter new namespaces that contain only these files and folders, read-only, and an empty /box."""
    kernel.enter_user_namespace(kernel.NEW_MOUNTS | kernel.NEW_UTS | kernel.NEW_IPC | kernel.NEW_NET)
    kernel.mount("none", "/", "", kernel.RECURSIVE | kernel.PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", kernel.NO_SUID | kernel.NO_DEVICES, "size=1m,mode=755")
    for path in shown:
        target = root + path
        if os.path.islink(path):  # noqa: PTH114
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
            os.symlink(os.readlink(path), target)  # noqa: PTH115, PTH211
            continue
        os.makedirs(target if os.path.isdir(path) else os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH112, PTH120
        if not os.path.isdir(path):  # noqa: PTH112
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        kernel.bind(path, target)
    os.mkdir(root + BOX)  # noqa: PTH102
    kernel.make_root(root)
    kernel.make_read_only("/")


def run(request: dict[str, Any], *, strong: bool) -> dict[str, Any]:
    """Run one program in its own child process, and return the reply."""
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    began = time.monotonic()
    middle = os.fork()
    if middle == 0:
        try:
            _middle(request, out_end, err_end, strong=strong)
        finally:
            os._exit(90)
    os.setpgid(middle, middle)
    os.close(out_end)
    os.close(err_end)
    wall = WALL_FACTOR * request["seconds"] + WALL_SPARE
    texts, ended = _read({out: bytearray(), err: bytearray()}, began + wall, request["output"])
    if ended:
        os.killpg(middle, signal.SIGKILL)
    _, status = os.waitpid(middle, 0)
    state = ended or _state(os.waitstatus_to_exitcode(status))
    output, error = (bytes(texts[pipe]).decode(errors="replace") for pipe in (out, err))
    os.close(out)
    os.close(err)
    error = error.strip()[-LAST_CHARACTERS:]
    return {"state": state, "output": output, "error": error, "seconds": round(time.monotonic() - began, 3)}


def _state(code: int) -> str:
    if code == 0:
        return RAN
    return {90: KILLED, 91: TIMED_OUT, 92: KILLED}.get(code, FAILED)


def _read(pipes: dict[int, bytearray], deadline: float, most: int) -> tuple[dict[int, bytearray], str]:
    """Read until both pipes are closed, the time is up, or one has too much; return the texts and why to end the program."""
    still = list(pipes)
    while still:
        left = deadline - time.monotonic()
        ready = select.select(still, [], [], max(left, 0))[0] if left > 0 else []
        if not ready:
            return pipes, TIMED_OUT
        for pipe in ready:
            chunk = os.read(pipe, 65536)
            if not chunk:
                still.remove(pipe)
            pipes[pipe] += chunk
            if len(pipes[pipe]) > most:
                del pipes[pipe][most:]
                return pipes, TOO_MUCH
    return pipes, ""


def _middle(request: dict[str, Any], out: int, err: int, *, strong: bool) -> None:
    """Create the program's namespaces, start it as their first process, and end as it ended."""
    kernel.die_with_parent()
    if strong:
        kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_PID | kernel.NEW_IPC)
    child = os.fork()
    if child == 0:
        try:
            _program(request, out, err, strong=strong)
        except BaseException:  # noqa: BLE001 (whatever it is, this process must end)
            os._exit(92)
        os._exit(92)
    os.close(out)
    os.close(err)
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and used.ru_utime + used.ru_stime >= request["seconds"]:
        os._exit(91)
    os._exit(92 if code < 0 else min(code, 89))


def _program(request: dict[str, Any], out: int, err: int, *, strong: bool) -> None:
    """Become the program: with its limits, without unneeded capabilities, files or system calls."""
    kernel.die_with_parent()
    if strong:
        size = f"size={request['files']},nr_inodes=256,mode=700"
        kernel.mount("tmpfs", BOX, "tmpfs", kernel.NO_SUID | kernel.NO_DEVICES, size)
        os.chdir(BOX)
    nothing = os.open("/dev/null", os.O_RDONLY)
    for end, number in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(end, number)
    os.closerange(3, 65536)
    _limit(request)
    if strong:
        kernel.drop_capabilities()
    kernel.refuse_system_calls()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os._exit(_execute(request["program"]))


def _limit(request: dict[str, Any]) -> None:
    seconds = max(1, int(request["seconds"]))
    limits = {
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_AS: (request["memory"] + BASE, request["memory"] + BASE),
        resource.RLIMIT_FSIZE: (request["files"], request["files"]),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_STACK: (64 << 20, 64 << 20),
    }
    for name, limit in limits.items():
        resource.setrlimit(name, limit)


def _execute(program: str) -> int:
    """Run the program's text as the main module; return its exit status, 0 to 89."""
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), encoding="utf-8", errors="replace", write_through=number == 2)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["program.py"]
    try:
        exec(compile(program, "program.py", "exec"), main.__dict__)  # noqa: S102 (this is what the sandbox is for)
        sys.stdout.flush()
    except SystemExit as end:
        sys.stdout.flush()
        return end.code % 90 if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:  # noqa: BLE001 (a program may raise what it likes)
        with_line = traceback.format_exception_only(error)
        sys.stdout.flush()
        sys.stderr.write(with_line[-1])
        return 1
    return 0


def main() -> None:
    """Import what programs use, enter the sandbox, and serve."""
    settings = json.loads(sys.argv[1])
    sys.path.remove(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # only replies are written where replies go
    try:
        sys.path += settings["packages"]
        import numpy  # noqa: F401
        import sympy

        sympy.simplify(sympy.sympify("x + 1/x"))  # loads what the first program would otherwise wait for
        if settings["walls"] == "namespaces":
            enter_walls(settings["shown"], settings["root"])
        reply = run({"program": "print(1 + 1)", **settings["trial"]}, strong=settings["walls"] != "weak")
        if (reply["state"], reply["output"].strip()) != (RAN, "2"):
            raise OSError(f"a trial ended as {reply['state']}: {reply['error'] or reply['output']}")
    except (OSError, ImportError) as error:
        print(json.dumps({"refused": str(error)}), file=replies, flush=True)
        return
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(run(request, strong=settings["walls"] != "weak")), file=replies, flush=True)
