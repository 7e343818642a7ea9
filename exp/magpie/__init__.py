"""The library behind the stage programs."""

import importlib.util
import sys
from pathlib import Path

_program = Path(sys.argv[0]).resolve()
_is_ours = _program.parent == Path(__file__).resolve().parents[1] and _program.suffix == ".py"
if _is_ours and _program.name != "doctor.py" and importlib.util.find_spec("msgspec") is None:  # the doctor needs no set-up
    _environment = _program.parents[1] / ".venv" / "bin" / "activate"
    _first = "source .venv/bin/activate" if _environment.exists() else "bash scripts/setup.sh && source .venv/bin/activate"
    sys.stderr.write(f"{_program.stem}: error: this Python lacks the project's packages. First: {_first}\n")
    sys.exit(2)
