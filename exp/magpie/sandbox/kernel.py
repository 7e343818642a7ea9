"""System calls that isolate a process: namespaces, mounts, capabilities, seccomp, with the numbers of linux/*.h.

The worker imports this where only the standard library is available.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _DETACH = 442, -100, 0x8000, 2
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER, _SET_PARENT_DEATH_SIGNAL = 38, 22, 2, 1
_CAPABILITIES_V3 = 0x20080522
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000

_X32 = 0x40000000
"""Added to the numbers of x86-64's second ABI, which would bypass any list of numbers."""

_REFUSED = """
clone 56 220; fork 57 -; vfork 58 -; clone3 435 435; execve 59 221; execveat 322 281; socket 41 198; socketpair 53 199;
unshare 272 97; setns 308 268; chroot 161 51; pivot_root 155 41; mount 165 40; umount2 166 39; open_tree 428 428;
move_mount 429 429; fsopen 430 430; fsconfig 431 431; fsmount 432 432; fspick 433 433; mount_setattr 442 442;
ptrace 101 117; process_vm_readv 310 270; process_vm_writev 311 271; kcmp 312 272; pidfd_open 434 434; pidfd_getfd 438 438;
open_by_handle_at 304 265; name_to_handle_at 303 264; bpf 321 280; perf_event_open 298 241; userfaultfd 323 282;
personality 135 92; add_key 248 217; request_key 249 218; keyctl 250 219; io_uring_setup 425 425; io_setup 206 0;
memfd_create 319 279; memfd_secret 447 447; shmget 29 194; msgget 68 186; semget 64 190; mq_open 240 180;
init_module 175 105; finit_module 313 273; delete_module 176 106; kexec_load 246 104; kexec_file_load 320 294;
swapon 167 224; reboot 169 142; kill 62 129; tkill 200 130; tgkill 234 131; pidfd_send_signal 424 424;
rt_sigqueueinfo 129 138; rt_tgsigqueueinfo 297 240; prlimit64 302 261; setpriority 141 140; sched_setscheduler 144 119;
sched_setattr 314 274
"""
"""Calls that escape, start a process or thread, or hold memory that no limit counts: name, number on x86-64, on arm64."""
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine → its column above, and its name in <linux/audit.h>."""


class _Load(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(kinds: int) -> None:
    """Leave the namespaces of these kinds for new ones.

    Raises:
        OSError: the kernel or its administrator does not allow it, as in all functions here.
    """
    _check(_LIBC.unshare(kinds), "unshare")


def enter_user_namespace(others: int) -> None:
    """Enter new namespaces in which this process has all capabilities, but cannot create further user namespaces."""
    user, group = os.geteuid(), os.getegid()
    unshare(NEW_USER | others)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 (pathlib would be another import in every program)
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:  # noqa: PTH123
        file.write("0")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system."""
    words = [word.encode() for word in (source, target, kind)]
    _check(_LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def bind(source: str, target: str) -> None:
    """Bind a file or folder, with all mounts below it, to another place, read-only."""
    mount(source, target, "", BIND | RECURSIVE)
    if not source.startswith("/dev/"):
        make_read_only(target, NO_DEVICES)


def make_read_only(target: str, more: int = 0) -> None:
    """Make a mount, and all mounts below it, read-only."""
    attributes = struct.pack("QQQQ", READ_ONLY | NO_SUID | more, 0, 0, 0)
    arguments = (target.encode(), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes)))
    _check(_LIBC.syscall(_MOUNT_SETATTR, _AT_FDCWD, *arguments), f"mount_setattr {target}")


def make_root(folder: str) -> None:
    """Make a mounted folder the root, and unmount the old one."""
    os.chdir(folder)
    _check(_LIBC.pivot_root(b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", _DETACH), "umount2")
    os.chdir("/")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _check(_LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, 9, 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Drop all capabilities permanently: no later exec gets them back."""
    header, none = struct.pack("Ii", _CAPABILITIES_V3, 0), struct.pack("IIIIII", 0, 0, 0, 0, 0, 0)
    _check(_LIBC.capset(header, none), "capset")


def refuse_system_calls() -> None:
    """Refuse `_REFUSED` from here on. A program with another architecture's numbers is killed.

    Raises:
        OSError: this machine's numbers are not known.
    """
    if platform.machine() not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    column, machine = _MACHINES[platform.machine()]
    numbers = [int(number) for entry in _REFUSED.split(";") if (number := entry.split()[1 + column]) != "-"]
    last = len(numbers) + 1  # jumps are counted in instructions that are skipped
    lines = [
        (0x20, 0, 0, 4),  # load the machine
        (0x15, 1, 0, machine),
        (0x06, 0, 0, _KILL),
        (0x20, 0, 0, 0),  # load the number
        (0x35, last, 0, _X32),  # at or above
        *((0x15, last - 1 - place, 0, number) for place, number in enumerate(numbers)),
        (0x06, 0, 0, _ALLOW),
        (0x06, 0, 0, _REFUSE),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    _check(_LIBC.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    program = _Load(len(lines), code)
    _check(_LIBC.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0), "seccomp")
