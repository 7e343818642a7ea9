"""`magpie PROGRAM …`: the programs as commands of an installed package, with the same flags as in a clone."""

from __future__ import annotations

import ast
import os
import sys

from magpie.config.load import PROGRAMS


def main() -> None:
    """Become the program that the first argument names, or list the programs."""
    programs = {path.stem.replace("_", "-"): path for path in sorted(PROGRAMS.glob("[a-z]*.py")) if path.stem != "setup"}
    name, *arguments = sys.argv[1:] or ["--help"]
    if path := programs.get(name.replace("_", "-")):
        os.execv(sys.executable, [sys.executable, str(path), *arguments])  # noqa: S606
    if name not in ("-h", "--help"):
        sys.exit(f"magpie: no program '{name}'. Available: {', '.join(programs)}")
    print("usage: magpie PROGRAM …\n\nmagpie PROGRAM --help shows its flags.\n")
    for name, path in programs.items():
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        print(f"  {name:16} {about.partition(chr(10))[0]}")


if __name__ == "__main__":
    main()
