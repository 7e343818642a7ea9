"""The files that belong to an output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from magpie.common.console import MagpieError
from magpie.common.files import LONGEST_NAME
from magpie.records.reading import stem_of


@dataclass(frozen=True)
class Paths:
    """An output and the files that belong to it."""

    output: Path
    dropped: Path
    part: Path
    run: Path

    @classmethod
    def beside(cls, output: Path) -> Paths:
        """Return the paths that belong to an output file."""
        if output.suffix != ".jsonl":
            raise MagpieError(f"--output_file {output}: the name must end in .jsonl")
        stem = output.with_name(stem_of(output))
        return cls(
            output, stem.with_name(f"{stem.name}_dropped.jsonl"), output.with_suffix(".part"), output.with_suffix(".run.json")
        )

    @classmethod
    def beside_folder(cls, folder: Path) -> Paths:
        """Return the paths that belong to an output folder."""
        endings = ("_dropped.jsonl", ".part", ".run.json")
        return cls(folder, *(folder.with_name(f"{folder.name}{ending}") for ending in endings))

    def check(self, inputs: set[Path], *, makes_folder: bool) -> None:
        """Refuse names that cannot be written, or whose files would be lost.

        Raises:
            MagpieError: an input, a folder, a loop of links, a name that is too long.
        """
        for path in (self.output, self.dropped, self.part, self.run):
            try:
                resolved = path.resolve()
            except (OSError, RuntimeError) as error:
                raise MagpieError(f"{path}: a loop of links. Choose another --output_file") from error
            if resolved in inputs:
                raise MagpieError(f"{path} is the input, and would be overwritten. Choose another --output_file")
            if len(os.fsencode(path.name)) > LONGEST_NAME:
                raise MagpieError(f"{path}: the name is too long. Choose another --output_file")
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise MagpieError(f"{path} is a pipe or a device. Choose another --output_file")
            if os.path.lexists(path) and path.is_dir() != (makes_folder and path is self.output):
                raise MagpieError(f"{path} is {'a folder' if path.is_dir() else 'no folder'}. Choose another --output_file")
