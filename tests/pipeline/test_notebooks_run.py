"""The notebooks themselves, through papermill, at toy size and with nothing prepared.

The first in a kernel as a user's papermill starts it, the others in forked ones as in the matrix.
"""

import os
import subprocess
import sys

import nbformat
import pytest
import yaml

from ctd_lib import kernels, params, paths

TINY = {
    "01_convert": {},
    "02_pretrain": {},
    "03_distill": {},
    "04_finetune": {"task": "tagging", "epochs": 1, "finetune_batch_size": 2},
    "05_measure": {"lengths": [16, 64], "repeats": 1},
}
CONLL = "Ada\tB-PER\nspoke\tO\nin\tO\nRome\tB-LOC\n\nTom\tB-PER\nwent\tO\nto\tO\nParis\tB-LOC\n"
STAGES = {
    "01_convert": params.ConvertParams,
    "02_pretrain": params.PretrainParams,
    "03_distill": params.DistillParams,
    "04_finetune": params.FinetuneParams,
    "05_measure": params.MeasureParams,
}


def papermill(name: str, home, given: dict):
    """Runs a notebook from another working directory; returns the process and what it displayed."""
    output = home / f"{name}.out.ipynb"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    command += [str(paths.notebooks() / f"{name}.ipynb"), str(output), "-y", yaml.safe_dump(given)]
    environment = os.environ | {"CTD_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    cells = nbformat.read(output, as_version=4).cells
    said = "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))
    return done, said


@pytest.mark.slow
def test_each_notebook_runs_alone_and_reuses_what_is_there(tmp_path, toy):
    (tmp_path / "own.conll").write_text(CONLL)
    files = {"train_file": str(tmp_path / "own.conll"), "test_file": str(tmp_path / "own.conll")}

    def run(name: str) -> str:
        known = params.names(STAGES[name])
        given = {n: v for n, v in (toy | files | TINY[name]).items() if n in known}
        done, said = papermill(name, tmp_path, given | {"arch": "longformer"})
        assert done.returncode == 0, done.stderr
        return said

    said = run("03_distill")
    assert all(f"{stage} longformer: making" in said for stage in ("convert", "pretrain"))
    with kernels.server(tmp_path / "kernels.log"):
        for name in ("01_convert", "02_pretrain", "04_finetune", "05_measure"):
            said = run(name)
            if name != "04_finetune":
                assert said.count("making") == (name == "05_measure")

        made = {path.name.split("-")[0] for path in (tmp_path / "results" / "quick").glob("*.json")}
        assert made == {"convert", "pretrain", "distill", "finetune", "measure"}

        done, said = papermill("06_report", tmp_path, {})
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "book" / "generated" / "tables" / "headline.csv").is_file()
