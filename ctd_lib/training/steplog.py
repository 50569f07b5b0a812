"""What training tells of each step: rows in memory and in a file, progress bar, TensorBoard."""

import csv
import warnings
from pathlib import Path

from tqdm import tqdm

from ctd_lib import processes
from ctd_lib.errors import CtdError

Row = dict[str, float | None]


class TrainLog(list[Row]):
    """A row per step: step, loss, every term, and of that step alone learning_rate,
    gradient_norm, tokens, seconds, tokens_per_second; with evaluation, its value or None."""

    @property
    def tokens(self) -> int:
        """Tokens trained on, without padding; those of all processes."""
        return sum(row["tokens"] for row in self)

    @property
    def seconds(self) -> float:
        """Time of all steps, without evaluation and checkpoints."""
        return sum(row["seconds"] for row in self)


class StepLog:
    """Writes each row as soon as its step is done, and shows it.

    A disk that is full is no reason to lose the training: the file is then completed at the end, if
    it can be.

    Raises:
        CtdError: on entering, where the file cannot be written from the start.
    """

    def __init__(
        self, log: TrainLog, steps: int, path: Path | str | None, description: str, accelerator=None
    ):
        """
        Args:
            log: gets the rows; those in it are of the run that was interrupted.
            steps: rows that there will be.
            path: CSV file, whose folder is made where there is none; None: no file.
            description: label of the progress bar, which is on stderr.
            accelerator: has the tracker that is to get the rows; None: none.
        """
        main = processes.is_main()
        self.log, self.accelerator = log, accelerator
        self.path = Path(path) if main and path is not None else None
        self.complete = True
        self.bar = tqdm(
            total=steps, initial=len(log), desc=description, mininterval=1, disable=not main
        )

    def __enter__(self) -> "StepLog":
        try:
            self._rewrite()
        except OSError as error:
            self.bar.close()
            raise CtdError(
                f"the step log {self.path} cannot be written: {error}; choose another log_path."
            ) from error
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()
        try:
            if not self.complete:
                self._rewrite()
        except OSError as error:
            self._warn(error, "it lacks the last steps")
        if self.accelerator is not None:  # its own `end_training` would part the processes too
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def add(self, row: Row) -> None:
        """A new row."""
        self.log.append(row)
        try:
            if self.complete and self.path is not None:
                with open(self.path, "a", newline="") as file:
                    _write(file, [row], header=len(self.log) == 1)
        except OSError as error:
            self.complete = False
            self._warn(error, "training goes on")
        if self.accelerator is not None:
            values = {name: value for name, value in row.items() if value is not None}
            self.accelerator.log(values, step=int(row["step"]))
        speed = f"{row['tokens_per_second']:.0f} tokens/s"
        self.bar.set_postfix_str(f"loss {row['loss']:.3f}, {speed}", refresh=False)
        self.bar.update()

    def _rewrite(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "w", newline="") as file:
                _write(file, self.log, header=bool(self.log))

    def _warn(self, error: OSError, so: str) -> None:
        warnings.warn(f"the step log {self.path} cannot be written: {error}; {so}.", stacklevel=3)


def _write(file, rows: list[Row], header: bool) -> None:
    writer = csv.writer(file)
    if header:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
