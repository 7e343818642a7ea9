"""Reading of `configs/`: YAML files checked against msgspec structs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from magpie.common.console import MagpieError

_PACKAGE = Path(__file__).resolve().parents[1]
IS_CLONE = (_PACKAGE.parents[1] / "configs").is_dir()
PROJECT = _PACKAGE.parents[1] if IS_CLONE else Path.cwd()
"""The clone; for an installed package the current folder, which then has data/ and models/."""
CONFIGS = (_PACKAGE.parents[1] if IS_CLONE else _PACKAGE) / "configs"
PROGRAMS = _PACKAGE.parent if IS_CLONE else _PACKAGE / "programs"
T = TypeVar("T")


def config_path(*names: str) -> Path:
    """Return the path of a file or folder below `configs/`."""
    return CONFIGS.joinpath(*names)


def load(path: Path, kind: type[T]) -> T:
    """Return the content of a YAML file as a struct (or another type that msgspec converts to).

    Raises:
        MagpieError: the file is missing, is not YAML, or has an unknown, missing or wrong key; names the file and the key.
    """
    return check(read_yaml(path), kind, path)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        MagpieError: the file is missing or is not YAML.
    """
    try:
        return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MagpieError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except FileNotFoundError as error:
        raise MagpieError(f"{path}: no such file") from error


def check(content: Any, kind: type[T], path: Path) -> T:
    """Return the content of a file, converted to `kind`.

    Raises:
        MagpieError: a key is unknown, missing or has the wrong type; names the file (`path`) and the key.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise MagpieError(f"{path}: {error}") from error


def plain(value: Any) -> Any:
    """Return a configuration as dictionaries, lists and values."""
    return msgspec.to_builtins(value)
