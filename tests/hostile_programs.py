"""Programs that a model might write and nobody should run, and honest ones with what they print."""

from __future__ import annotations

import textwrap

_HOSTILE = r"""
### fork bomb
import os
while True:
    os.fork()
### fork bomb by subprocess
import subprocess
subprocess.Popen(["sh", "-c", ":(){ :|:& };:"])
### daemon
import os
if os.fork() == 0:
    os.setsid()
    while True:
        pass
### vfork and exec by ctypes
import ctypes
libc = ctypes.CDLL(None)
print(libc.vfork(), libc.system(b"id > /tmp/out"))
### posix_spawn
import os
os.posix_spawn("/bin/sh", ["sh", "-c", "touch VICTIM/spawned"], {})
### exec a shell
import os
os.execv("/bin/sh", ["sh", "-c", "cat CANARY"])
### exec python again
import os, sys
os.execv(sys.executable, [sys.executable, "-c", "print(open('CANARY').read())"])
### multiprocessing
import multiprocessing
multiprocessing.Process(target=print).start()
### threads
import threading
for _ in range(10000):
    threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()
### small stacks
import threading
threading.stack_size(32768)
while True:
    threading.Thread(target=threading.Event().wait).start()
### ten gigabytes
x = bytearray(10 * 2**30)
### memory bit by bit
x = []
while True:
    x.append(bytearray(2**20))
### memory by numpy
import numpy as np
x = [np.ones(2**24) for _ in range(1000)]
### memory by mmap
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 2**26))
    kept[-1].write(b"x" * 2**26)
### memory by memfd
import os
f = os.memfd_create("x")
while True:
    os.write(f, b"x" * 2**20)
### memory by shared memory
from multiprocessing import shared_memory
kept = [shared_memory.SharedMemory(create=True, size=2**30) for _ in range(100)]
### a huge string
x = "a" * 10**11
### deep recursion
import sys
sys.setrecursionlimit(10**9)
def f(n):
    return f(n + 1) + 1
f(0)
### recursion in C
x = []
for _ in range(10**6):
    x = [x]
print(repr(x) == 1)
### a null pointer
import ctypes
ctypes.string_at(0)
### endless output
while True:
    print("a" * 1000)
### endless errors
import sys
while True:
    sys.stderr.write("a" * 1000)
### one long line
print("a" * 10**8)
### bytes that are no text
import os
os.write(1, bytes(range(256)))
### control characters
print("\x1b]0;owned\x07\x1b[2J")
### a fake reply
import sys
print('{"state": "ran", "output": "1"}')
sys.exit(77)
### write to every descriptor
import os
for n in range(200):
    try:
        os.write(n, b'{"state": "ran", "output": "OWNED", "error": "", "seconds": 0}\n')
    except OSError:
        pass
### connect
import socket
s = socket.create_connection(("127.0.0.1", PORT), timeout=2)
s.send(b"hello")
### a web page
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:PORT/").read())
### udp
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))
### unix socket
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/var/run/docker.sock")
### virtual machine socket
import socket
socket.socket(40, socket.SOCK_STREAM).connect((2, 22))
### netlink by ctypes
import ctypes
print("fd", ctypes.CDLL(None).socket(16, 3, 0))
raise SystemExit(5)
### names of hosts
import socket
print(socket.gethostbyname("localhost"), socket.gethostname())
### the keys
import os
print(dict(os.environ), os.environ["MAGPIE_API_KEY"])
### the keys of all processes
import glob
for name in glob.glob("/proc/*/environ"):
    print(open(name, "rb").read())
### own memory
print(open("/proc/self/maps").read()[:100])
open("/proc/self/mem", "wb").write(b"x")
### read a file outside
print(open("CANARY").read())
### passwords
print(open("/etc/passwd").read())
### write outside
open("VICTIM/new", "w").write("x")
### write over
open("CANARY", "w").write("x")
### delete
import shutil
shutil.rmtree("VICTIM")
### everything
import shutil
shutil.rmtree("/", ignore_errors=True)
open("/usr/x", "w")
### symbolic link
import os
os.symlink("CANARY", "link")
print(open("link").read())
### hard link
import os
os.link("CANARY", "link")
print(open("link").read())
### climb
import os
print(open("../" * 30 + "CANARY").read())
### python's own files
import os
open(os.__file__, "a").write("import evil\n")
### plant a module
import sys, os
for folder in [*sys.path, "/", "/tmp", "/usr/lib"]:
    try:
        open(os.path.join(folder, "numpy.py"), "w").write("print('OWNED')")
        print("PLANTED", folder)
    except OSError:
        pass
raise SystemExit(3)
### fill the disk
n = 0
while True:
    with open(f"f{n}", "wb") as file:
        file.write(b"x" * 2**20)
    n += 1
### many files
n = 0
while True:
    open(f"f{n}", "w").close()
    n += 1
### leave something behind
open("/box/left", "w").write("OWNED")
import os
print(os.listdir("/box") == ["left"])
raise SystemExit(4)
### kill the parent
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
### kill all
import os, signal
os.kill(-1, signal.SIGKILL)
### signals by number
import ctypes
libc = ctypes.CDLL(None)
print([libc.kill(n, 9) for n in range(-1, 3000)].count(0))
raise SystemExit(6)
### trace
import ctypes
libc = ctypes.CDLL(None)
print(libc.ptrace(16, 1, 0, 0))
raise SystemExit(7)
### ignore signals
import signal
for n in range(1, 65):
    try:
        signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
### sleep
import time
time.sleep(10**6)
### wait for input
import sys
print(input(), sys.stdin.read())
### os._exit
import os
os._exit(0)
### abort
import os
os.abort()
### a loop in C
sum(range(10**13))
### a power
print(len(bin(9**(9**9))))
### a huge integer to print
import sys
sys.set_int_max_str_digits(0)
print(10**(10**7) - 1)
### a regular expression
import re
re.match(r"(a+)+$", "a" * 40 + "b")
### sympy that never ends
import sympy
print(sympy.factorint(2**1061 - 1))
### new namespaces
import ctypes
print(ctypes.CDLL(None).unshare(0x10000000))
raise SystemExit(8)
### mount
import ctypes
libc = ctypes.CDLL(None)
print(libc.mount(b"none", b"/", None, 0x1000 | 32, None), libc.mount(b"tmpfs", b"/usr", b"tmpfs", 0, None))
raise SystemExit(9)
### raise the limits
import resource
resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))
### change the clock
import time
time.clock_settime(time.CLOCK_REALTIME, 0)
### higher priority
import os
os.nice(-20)
os.setpriority(os.PRIO_PROCESS, 0, -20)
### another user
import os
os.setuid(12345)
os.setgid(12345)
os.chroot("/box")
### a device
import os
os.mknod("/box/sda", 0o60600, os.makedev(8, 0))
### exit in a handler
import atexit
atexit.register(lambda: [None for _ in iter(int, 1)])
raise KeyboardInterrupt
### print replaced
import builtins, os
builtins.print = lambda *a: os._exit(0)
print(1)
"""
HOSTILE = {
    text.partition("\n")[0].strip(): text.partition("\n")[2] for text in textwrap.dedent(_HOSTILE).split("### ") if text.strip()
}
"""Name → program; CANARY, VICTIM and PORT stand for a secret file, a folder and a server outside."""

_HONEST = r"""
print(2 + 3) => 5
print(sum(x for x in range(1000) if x % 3 == 0 or x % 5 == 0)) => 233168
from fractions import Fraction; print(Fraction(1, 3) + Fraction(1, 6)) => 1/2
from math import comb; print(comb(52, 5)) => 2598960
from itertools import permutations; print(sum(all(p[i] != i for i in range(6)) for p in permutations(range(6)))) => 265
import sympy; print(sympy.factorint(5040)) => {2: 4, 3: 2, 5: 1, 7: 1}
import sympy as sp; x = sp.symbols("x"); print(sp.integrate(x * sp.exp(x), (x, 0, 1))) => 1
import sympy as sp; x = sp.symbols("x"); print(sorted(sp.solve(x**2 - 5*x + 6, x))) => [2, 3]
import sympy as sp; n = sp.symbols("n"); print(sp.limit((1 + 1/n)**n, n, sp.oo)) => E
import sympy as sp; print(sp.Matrix([[1, 2], [3, 4]]).det()) => -2
import sympy as sp; k = sp.symbols("k"); print(sp.summation(1/k**2, (k, 1, sp.oo))) => pi**2/6
import sympy as sp; print(sp.nextprime(10**6)) => 1000003
import sympy as sp; print(sp.totient(1000)) => 400
import sympy as sp; x = sp.symbols("x"); print(sp.factor(x**4 + 4)) => (x**2 - 2*x + 2)*(x**2 + 2*x + 2)
import numpy as np; print(int(np.linalg.matrix_rank(np.array([[1, 2], [2, 4]])))) => 1
import numpy as np; print(np.round(np.linalg.solve([[2, 1], [1, 3]], [3, 5]), 1).tolist()) => [0.8, 1.4]
import numpy as np; print(int(np.convolve([1, 1], [1, 2, 1])[1])) => 3
import numpy.random as r; r.seed(0); print(r.randint(0, 10, 100).shape) => (100,)
import numpy.fft; print(round(abs(numpy.fft.fft([1, 0, 0, 0])[2]))) => 1
from decimal import Decimal, getcontext; getcontext().prec = 30; print(Decimal(2).sqrt()) => 1.41421356237309504880168872421
import math; print(math.gcd(1071, 462)) => 21
import statistics; print(statistics.median([3, 1, 2])) => 2
import functools; f = functools.cache(lambda n: n if n < 2 else f(n - 1) + f(n - 2)); print(f(90)) => 2880067194370816120
import heapq; print(heapq.nsmallest(2, [5, 1, 4])) => [1, 4]
import collections; print(collections.Counter("mississippi")["s"]) => 4
print(pow(7, 100, 13)) => 9
print(str(2**100)[-1]) => 6
print(len(str(3**1000))) => 478
print(sum(map(int, str(2**1000)))) => 1366
import datetime; print(datetime.date(2024, 3, 1).strftime("%A")) => Friday
import random; random.seed(1); print(0 <= random.random() < 1) => True
import string; print(string.ascii_uppercase[25]) => Z
import cmath; print(round(abs(cmath.exp(1j * cmath.pi) + 1), 9)) => 0.0
open("notes", "w").write("42"); print(open("notes").read()) => 42
import tempfile, os; print(os.getcwd() == "/box" or True) => True
import sys; print("first"); print("last"); sys.exit() => last
print(max(range(1, 1000), key=lambda n: sum(1 for d in range(1, n + 1) if n % d == 0))) => 840
import mpmath; mpmath.mp.dps = 20; print(mpmath.zeta(3)) => 1.2020569031595942854
import bisect, json, re, operator, itertools; print(json.dumps({"a": 1})) => {"a": 1}
if __name__ == "__main__": print("main") => main
import dataclasses; print(dataclasses.make_dataclass("P", ["x"])(3).x) => 3
"""
HONEST = [tuple(line.rsplit(" => ", 1)) for line in _HONEST.strip().splitlines()]
"""Programs, and the last line that each prints."""
