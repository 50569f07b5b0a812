"""Records: one JSON file per measurement, the only place that a number in the book comes from.

Predictions of a finetuning are kept beside its record, in `predictions/` under the same name; the
record has their digest.
"""

import hashlib
import json
import os
from pathlib import Path

import jsonschema
import pandas as pd

from ctd_lib import paths
from ctd_lib.errors import CtdError

SCHEMA_VERSION = 1
KINDS = ("convert", "pretrain", "distill", "finetune", "measure", "systems", "export")
COLUMNS = (
    "kind", "profile", "arch", "role", "task", "seed", "key",
    "params", "values", "source", "provenance", "predictions", "path",
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
        "predictions": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "provenance": _OBJECT
        | {"required": ["commit", "date", "seconds", "host", "versions", "stage_revision"]},
    },
}
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def write(
    kind: str,
    profile: str,
    params: dict,
    values: dict,
    source: dict | None,
    artifact,
    predictions: Path | None = None,
) -> Path:
    """Write the record of a finished artifact; the same artifact writes the same file.

    Args:
        kind: one of `KINDS`.
        params: every resolved parameter of the notebook, `arch` and `seed` among them.
        values: what was measured.
        source: `name`, `licence` and `synthetic` of the labelled data, where there is any.
        artifact: the `store.Artifact` that the values were taken from.
        predictions: file to keep beside the record.

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
    if predictions is not None:
        content = predictions.read_bytes()
        record["predictions"] = hashlib.sha256(content).hexdigest()
    _check(record, path)
    if predictions is not None:
        _replace(predictions_of(path), content)
    _replace(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return path


def predictions_of(path: Path) -> Path:
    """Where the predictions lie whose digest the record at `path` has."""
    return path.parent / "predictions" / f"{path.stem}.json.gz"


def check_predictions(path: Path, digest: str) -> Path:
    """The predictions of the record at `path`, if they are those that it was written with.

    Raises:
        CtdError: they are not there, or others.
    """
    kept = predictions_of(path)
    if not kept.is_file() or hashlib.sha256(kept.read_bytes()).hexdigest() != digest:
        raise CtdError(
            f"{kept} does not hold the predictions that record {path.name} was written with; "
            "restore it, or delete the record and run its notebook again."
        )
    return kept


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
                "seed": _seed(params),
                "key": record["artifact"],
                "params": params,
                "values": record["values"],
                "source": record["source"],
                "provenance": record["provenance"],
                "predictions": record.get("predictions"),
                "path": path,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _seed(params: dict) -> int:
    """Of the last thing that was trained."""
    own = params.get("finetune_seed")
    return params["seed"] if own is None else own


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_bytes(content)
    os.replace(partial, path)


def _check(record: object, path: Path) -> None:
    try:
        _VALIDATOR.validate(record)
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "the whole record"
        raise CtdError(
            f"Record {path} does not fit the schema at {where}: {error.message}."
        ) from error
