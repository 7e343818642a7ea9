"""croissant.json: a dataset folder's description for programs (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html).

As the hub writes it for every dataset (`croissant_utils.py` of huggingface/dataset-viewer), but for this
folder's files, so that it can be read in place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from magpie.common.files import write_atomically
from magpie.export.formats import Columns

FILE = "croissant.json"
TYPES = {"string": "sc:Text", "double": "cr:Float64", "int64": "cr:Int64", "bool": "sc:Boolean"}
ENCODINGS = {"parquet": "application/x-parquet", "jsonl": "application/jsonlines"}
FILES, ROWS, SPLITS = "files", "default", "default_splits"
_CR = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
    "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
    "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "conformsTo": "dct:conformsTo",
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in _CR},
}


def write_croissant(
    folder: Path, about: dict[str, Any], columns: Columns, file_type: str, splits: list[str], *, citation: str
) -> None:
    """Write croissant.json into a dataset folder that has its rows.

    Args:
        folder: the dataset.
        about: properties of schema.org: name, description, license, …
        columns: of its files.
        file_type: of its files, `data/SPLIT.TYPE`.
        splits: their names.
        citation: how to cite it.
    """
    split = {"@type": "cr:Field", "@id": f"{SPLITS}/split_name", "dataType": "sc:Text"}
    names = {
        "@type": "cr:RecordSet",
        "@id": SPLITS,
        "name": SPLITS,
        "dataType": "cr:Split",
        "key": {"@id": split["@id"]},
        "field": [split],
        "data": [{split["@id"]: name} for name in splits],
    }
    of_row = {
        "@type": "cr:Field",
        "@id": f"{ROWS}/split",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": FILES},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": rf"(?:.*/)?({'|'.join(map(re.escape, splits))})(?:\.{file_type})?$"},
        },
        "references": {"field": {"@id": split["@id"]}},
    }
    fields = [of_row, *(_field(f"{ROWS}/{name}", name, kind, []) for name, kind in columns.items())]
    files = {"@type": "cr:FileSet", "@id": FILES, "name": FILES, "includes": f"data/*.{file_type}"}
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        **about,
        "citeAs": citation,
        "distribution": [files | {"encodingFormat": ENCODINGS[file_type]}],
        "recordSet": [names, {"@type": "cr:RecordSet", "@id": ROWS, "name": ROWS, "field": fields}],
    }
    write_atomically(folder / FILE, [json.dumps(content, indent=1, ensure_ascii=False).encode()])


def _field(name: str, column: str, kind: Any, path: list[str]) -> dict[str, Any]:
    """Return a column as a field; `path` leads to a value inside an object."""
    if isinstance(kind, list):
        return _field(name, column, kind[0], path) | {"isArray": True, "arrayShape": "-1"}
    field = {"@type": "cr:Field", "@id": name}
    if isinstance(kind, dict):
        inner = [_field(f"{name}/{key}", column, inside, [*path, key]) for key, inside in kind.items()]
        return field | {"subField": inner}
    source: dict[str, Any] = {"fileSet": {"@id": FILES}, "extract": {"column": column}}
    if path:
        steps = [{"jsonPath": key} for key in path]
        source["transform"] = steps[0] if len(steps) == 1 else steps
    return field | {"dataType": TYPES[kind], "source": source}
