"""The files beside an output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from magpie.common.console import MagpieError
from magpie.records.reading import stem_of


@dataclass(frozen=True)
class Paths:
    """An output and the files beside it."""

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
