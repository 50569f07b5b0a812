"""Records: one JSON file per measurement, the only place that a number in the book comes from."""

import json
import os
from pathlib import Path

import jsonschema
import pandas as pd

from ctd_lib import paths
from ctd_lib.errors import CtdError

SCHEMA_VERSION = 1
KINDS = ("convert", "pretrain", "distill", "finetune", "measure", "export")
COLUMNS = (
    "kind", "profile", "arch", "role", "task", "seed", "key",
    "params", "values", "source", "provenance", "path",
)  # fmt: skip

_OBJECT = {"type": "object"}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema",
        "kind",
        "profile",
        "params",
        "values",
        "source",
        "artifact",
        "provenance",
    ],
    "properties": {
        "schema": {"const": SCHEMA_VERSION},
        "kind": {"enum": list(KINDS)},
        "profile": {"type": "string"},
        "params": _OBJECT | {"required": ["arch", "seed"]},
        "values": _OBJECT | {"minProperties": 1},
        "source": {
            "anyOf": [{"type": "null"}, _OBJECT | {"required": ["name", "licence", "synthetic"]}]
        },
        "artifact": {"type": "string"},
        "provenance": _OBJECT
        | {"required": ["commit", "date", "seconds", "host", "versions", "stage_revision"]},
    },
}


def write(
    kind: str, profile: str, params: dict, values: dict, source: dict | None, artifact
) -> Path:
    """Write the record of a finished artifact; the same artifact writes the same file.

    Args:
        kind: one of `KINDS`.
        params: every resolved parameter of the notebook, `arch` and `seed` among them.
        values: what was measured.
        source: `name`, `licence` and `synthetic` of the labelled data, where there is any.
        artifact: the `store.Artifact` that the values were taken from.

    Returns:
        The path of the file.
    """
    record = {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "profile": profile,
        "params": params,
        "values": values,
        "source": source,
        "artifact": artifact.key,
        "provenance": artifact.provenance,
    }
    path = paths.results(profile) / f"{kind}-{params['arch']}-{artifact.key}.json"
    _check(record, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    os.replace(partial, path)
    return path


def read(path: Path) -> dict:
    """Read and check one record.

    Raises:
        CtdError: the file is no JSON or does not fit the schema.
    """
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise CtdError(
            f"Record {path} is no JSON ({error}); delete it and run its notebook again."
        ) from error
    _check(record, path)
    return record


def load(profile: str) -> pd.DataFrame:
    """All records of a profile, one row each, with the columns `COLUMNS`."""
    rows = []
    for path in sorted(paths.results(profile).glob("*.json")):
        record = read(path)
        params = record["params"]
        rows.append(
            {
                "kind": record["kind"],
                "profile": record["profile"],
                "arch": params["arch"],
                "role": params.get("role"),
                "task": params.get("task"),
                "seed": params["seed"],
                "key": record["artifact"],
                "params": params,
                "values": record["values"],
                "source": record["source"],
                "provenance": record["provenance"],
                "path": path,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check(record: object, path: Path) -> None:
    try:
        jsonschema.validate(record, SCHEMA)
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "the whole record"
        raise CtdError(
            f"Record {path} does not fit the schema at {where}: {error.message}."
        ) from error
