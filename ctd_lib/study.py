"""Run the matrix of notebooks: `python -m ctd_lib.study run --profile quick`.

Every run is papermill in a process of its own, and its kernel in another (see `kernels`); its
notebook is written aside and moved to its place only when it succeeded. A run whose notebook and
record are there and still fit is not repeated.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from ctd_lib import book, kernels, params, paths, records, runtime
from ctd_lib.errors import CtdError
from ctd_lib.report import tables

TITLES = {
    "01_convert": "Convert",
    "02_pretrain": "Pretrain",
    "03_distill": "Distill",
    "04_finetune": "Finetune",
    "05_measure": "Measure",
    "06_report": "Report",
}


@dataclass(frozen=True)
class Run:
    """One execution of one notebook."""

    notebook: str
    parameters: dict

    @property
    def label(self) -> str:
        seeds = ("seed", "finetune_seed")
        named = [(name, v) for name, v in self.parameters.items() if name != "profile"]
        values = [str(v) for name, v in named if name not in seeds]
        values += [f"seed{v}" for name, v in named if name in seeds and v]
        return " ".join(values) or self.parameters["profile"]

    @property
    def name(self) -> str:
        return f"{self.notebook}-{self.label.replace(' ', '-')}"

    @property
    def source(self) -> Path:
        return paths.notebooks() / f"{self.notebook}.ipynb"

    @property
    def target(self) -> Path:
        """Where the executed notebook goes: those of the quick profile are pages of the book."""
        profile = self.parameters["profile"]
        folder = paths.artifacts() / "executed" / profile
        return (paths.book_runs() if profile == "quick" else folder) / f"{self.name}.ipynb"


def matrix(profile: str) -> list[tuple[list[Run], bool]]:
    """The runs of a profile in groups: within one, runs are independent of each other.

    Returns:
        (runs, alone) pairs; `alone` runs are timed and must not share the machine.

    Raises:
        CtdError: the profile is not in `notebooks/matrix.yml`.
    """
    entries = yaml.safe_load((paths.notebooks() / "matrix.yml").read_text())
    if profile not in entries:
        raise CtdError(f"profile {profile!r} has no runs; matrix.yml knows {', '.join(entries)}.")
    return [
        (list(_expand(profile, entry)), entry.get("alone", False)) for entry in entries[profile]
    ]


def _expand(profile: str, entry: dict) -> Iterator[Run]:
    grid = entry.get("parameters", {})
    for values in itertools.product(*grid.values()):
        yield Run(entry["notebook"], {"profile": profile} | dict(zip(grid, values, strict=True)))


def run(profile: str, jobs: int | None = None, only: Sequence[str] = ("",)) -> None:
    """Run what is missing of a profile's matrix, then print the headline table.

    Args:
        jobs: runs at a time; None: one for each core, at most four.
        only: run only those whose name contains one of these texts.

    Raises:
        CtdError: a run failed, and what succeeded is kept; or no run has such a name.
    """
    if jobs is not None and jobs < 1:
        raise CtdError(f"jobs is {jobs}; at least one run at a time is needed.")
    cores = runtime.host()["cores"]
    jobs = jobs or min(cores, 4)
    groups = [
        ([r for r in runs if any(text in r.name for text in only)], alone)
        for runs, alone in matrix(profile)
    ]
    total, number = sum(len(runs) for runs, _ in groups), itertools.count(1)
    if not total:
        raise CtdError(
            f"no run of profile {profile!r} has {' or '.join(map(repr, only))} in its name; "
            f"`python -m ctd_lib.study list --profile {profile}` names them."
        )
    # No wait between groups that share the machine: a run whose artifact another one is making
    # waits at its lock, and the order of the matrix makes that rare.
    with kernels.server(paths.artifacts() / "runs" / profile / "kernels.log"):
        for alone, together in itertools.groupby(groups, key=lambda group: group[1]):
            runs = [one for group, _ in together for one in group]
            workers = 1 if alone else jobs
            with ThreadPoolExecutor(workers) as pool:
                waiting = [pool.submit(_ensure, r, max(1, cores // workers)) for r in runs]
                try:
                    for one, future in zip(runs, waiting, strict=True):
                        print(f"[{next(number)}/{total}] {one.name}: {future.result()}", flush=True)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    print(f"\n{tables.headline(records.load(profile)).to_string(index=False)}\n")


def _ensure(one: Run, threads: int) -> str:
    if one.notebook != "06_report" and _up_to_date(one):
        return "up to date"
    started = time.perf_counter()
    _execute(one, threads)
    return f"{time.perf_counter() - started:.0f} s"


def _execute(one: Run, threads: int) -> None:
    scratch = paths.artifacts() / "runs" / one.parameters["profile"] / f"{one.name}.ipynb"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(one.source),
        str(scratch),
        "--no-progress-bar",
    ]
    for name, value in one.parameters.items():
        command += ["-y", yaml.safe_dump({name: value})]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        log = scratch.with_suffix(".log")
        log.write_text(done.stdout + done.stderr)
        reason = next(
            (line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message"
        )
        raise CtdError(f"{one.name} failed (exit code {done.returncode}, log in {log}): {reason}")
    notebook = nbformat.read(scratch, as_version=4)
    notebook.cells[0].source = f"# {TITLES[one.notebook]}: {one.label}\n" + "\n".join(
        notebook.cells[0].source.splitlines()[1:]
    )
    notebook.metadata["ctd"] = {"digest": _digest(one)}
    nbformat.write(notebook, scratch)
    one.target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(scratch, one.target)


def _up_to_date(one: Run) -> bool:
    """Whether the executed notebook and the record behind it still fit source and parameters."""
    if not one.target.is_file():
        return False
    notebook = nbformat.read(one.target, as_version=4)
    if notebook.metadata.get("ctd", {}).get("digest") != _digest(one):
        return False
    kind = one.notebook.split("_")[1]
    wanted = params.as_dict(params.make(params.STAGES[kind], **one.parameters))
    del wanted["variant"]
    if wanted.get("systems") == "paper":
        kind = "systems"
    existing = records.load(one.parameters["profile"])
    # A teacher's record may have come from a call with settings of some student.
    without = params.of_the_student() if wanted.get("role") == "teacher" else frozenset()
    return any(
        all(row.get(name) == wanted.get(name) for name in (row.keys() | wanted.keys()) - without)
        for row in existing[existing.kind == kind].params
    )


def _digest(one: Run) -> str:
    """Of all that decides what the run shows: source, parameters, sizes, stage revisions."""
    from ctd_lib.pipeline import REVISIONS

    sizes = params.profiles()[one.parameters["profile"]]
    what = [book.source_digest(one.source), one.parameters, sizes, REVISIONS]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> int:
    """The command line; errors of the user are one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m ctd_lib.study", description=__doc__)
    parser.add_argument("verb", choices=["run", "list"])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--jobs", type=int, help="runs at a time")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="only runs whose name contains one of these"
    )
    given = parser.parse_args(arguments)
    try:
        if given.verb == "list":
            for runs, _ in matrix(given.profile):
                print("\n".join(f"{one.name}" for one in runs))
        else:
            run(given.profile, given.jobs, given.only)
    except CtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
