"""What moved since the committed reference: `python -m ctd_lib.report.drift`, `--accept` renews it.

The reference, `results/reference/<profile>.json`, holds a few numbers of every record. Another
machine rounds otherwise or computes in another precision, so that a score may differ by a few test
examples; it is faster or slower, so that times are compared as student / teacher only.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctd_lib import paths, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, tidy

MOVED, NEW, MISSING = "moved", "new", "missing"
CAPTION = (
    "What moved since the reference: numbers outside their tolerance, records that the reference "
    "does not have, and those that only it has."
)


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from its reference without having moved: the larger of the two."""

    absolute: float = 0.0
    relative: float = 0.0

    def around(self, reference: float, examples: int = 0) -> float:
        """The allowed difference; of a score on `examples`, at least two of them."""
        least = 2 / examples if examples else 0.0
        return max(self.absolute, self.relative * abs(reference), least)


TOLERANCES = {
    "score": Tolerance(absolute=0.02),
    "masked-LM loss": Tolerance(absolute=0.05),
    "time, student / teacher": Tolerance(relative=0.25),
    "teacher's peak (MiB)": Tolerance(relative=0.15),
    "student's peak (MiB)": Tolerance(relative=0.15),
    "teacher's parameters": Tolerance(),
    "student's parameters": Tolerance(),
}
_LOSSES = ("convert", "pretrain", "distill")


def reference_path(profile: str) -> Path:
    """Where the reference of a profile lies."""
    return paths.results("reference") / f"{profile}.json"


def numbers(found: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers that are compared, by record: kind, arch, role, task and seed in words."""
    taken = {}
    for kind in (*_LOSSES, "finetune", "measure"):
        for row in tidy.select(found, kind).itertuples():
            taken[_identity(row)] = dict(_taken(row))
    return taken


def accept(profile: str) -> Path:
    """Make the records of a profile its reference.

    Raises:
        CtdError: the profile has no records.
    """
    found = _load(profile)
    latest = max(found.provenance, key=lambda provenance: provenance["date"])
    content = {
        "profile": profile,
        "date": latest["date"],
        "commit": latest["commit"],
        "hosts": _hosts(found),
        "records": numbers(found),
    }
    path = reference_path(profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


@dataclass(frozen=True)
class Drift:
    """What moved, a row each, and the account of all that was compared in a sentence."""

    table: pd.DataFrame
    account: str


def compare(profile: str) -> Drift:
    """The records of a profile against its reference.

    Raises:
        CtdError: the profile has no records, or its reference is no reference.
    """
    found = _load(profile)
    reference = _read(profile)
    if reference is None:
        account = f"No reference of the profile {profile} is there yet."
        return Drift(_table([], nothing="not compared"), account)
    now, then = numbers(found), reference["records"]
    examples = {
        _identity(row): row.values["test_examples"]
        for row in tidy.select(found, "finetune").itertuples()
    }
    rows, compared = [], 0
    for name in sorted(now.keys() | then.keys()):
        if name not in then or name not in now:
            rows.append(_row(name, NEW if name in now else MISSING))
            continue
        for quantity in now[name].keys() & then[name].keys():
            compared += 1
            before, after = then[name][quantity], now[name][quantity]
            allowed = TOLERANCES[quantity].around(before, examples.get(name, 0))
            if abs(after - before) > allowed:
                rows.append(_row(name, MOVED, quantity, before, after, allowed))
    counts = {kind: sum(row["what"] == kind for row in rows) for kind in (MOVED, NEW, MISSING)}
    commit = (reference["commit"] or "none")[:8]
    account = (
        f"Against the reference of {reference['date'][:10]} (commit {commit}, "
        f"{', '.join(reference['hosts'])}): of {compared} numbers {counts[MOVED]} moved, "
        f"{counts[NEW]} records are new, {counts[MISSING]} missing. The records are of "
        f"{', '.join(_hosts(found))}, trained in {', '.join(_precisions(found))}."
    )
    return Drift(_table(rows), account)


def write(profile: str) -> Drift:
    """Compare, and write the table that the provenance page includes.

    Raises:
        CtdError: as `compare`.
    """
    drift = compare(profile)
    fragments.write_table("drift", CAPTION, drift.table, profile, drift.account)
    return drift


def _load(profile: str) -> pd.DataFrame:
    found = records.load(profile)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records; `make report` makes those of quick.")
    return found


def _read(profile: str) -> dict | None:
    path = reference_path(profile)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return {name: content[name] for name in ("date", "commit", "hosts", "records")}
    except (ValueError, KeyError, TypeError) as error:
        raise CtdError(
            f"{path} is no reference; renew it by `python -m ctd_lib.report.drift --accept`."
        ) from error


def _hosts(found: pd.DataFrame) -> list[str]:
    return sorted({made["host"]["gpu"] or made["host"]["cpu"] for made in found.provenance})


def _precisions(found: pd.DataFrame) -> list[str]:
    trained = found[found.kind.isin(tidy.TRAINED)]
    return sorted({tidy.precision(row) for row in trained.itertuples()}) or ["none"]


def _identity(row) -> str:
    words = [row.kind, row.arch, row.role, row.task, f"seed {row.seed}"]
    return " ".join(word for word in words if isinstance(word, str))


def _taken(row) -> Iterator[tuple[str, float]]:
    if row.kind == "finetune":
        yield "score", row.values["score"]
    elif row.kind in _LOSSES:
        yield "masked-LM loss", row.values["mlm_loss_after"]
    else:
        yield from _of_timings(row.values["rows"])


def _of_timings(rows: list[dict]) -> Iterator[tuple[str, float]]:
    """Of the longest input that both roles could read."""
    timed = {(row["role"], row["length"]): row for row in rows if row["seconds_median"]}
    both = [n for role, n in timed if role == "teacher" and ("student", n) in timed]
    if not both:
        return
    teacher, student = (timed[role, max(both)] for role in ("teacher", "student"))
    yield "time, student / teacher", student["seconds_median"] / teacher["seconds_median"]
    for role, row in (("teacher", teacher), ("student", student)):
        yield f"{role}'s parameters", row["parameters"]
        if row["peak_bytes"]:
            yield f"{role}'s peak (MiB)", row["peak_bytes"] / 2**20


def _row(name: str, what: str, quantity: str = "-", *values: float) -> dict:
    """Values: reference, now, allowed difference."""
    texts = [f"{value:,.4g}" for value in values] or ["-"] * 3
    columns = dict(zip(("reference", "now", "allowed difference"), texts, strict=True))
    return {"record": name, "what": what, "number": quantity} | columns


def _table(rows: list[dict], nothing: str = "nothing moved") -> pd.DataFrame:
    return pd.DataFrame(rows or [_row(nothing, "-")])


def main(arguments: list[str] | None = None) -> int:
    """The command line; errors of the user are one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m ctd_lib.report.drift", description=__doc__)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--accept", action="store_true", help="make these records the reference")
    given = parser.parse_args(arguments)
    try:
        if given.accept:
            print(f"The reference: {accept(given.profile)}")
        drift = write(given.profile)
    except CtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(drift.account)
    if set(drift.table.what) != {"-"}:
        print(drift.table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
