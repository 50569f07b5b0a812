"""What training tells of each step: rows in memory and in a file, progress bar, TensorBoard."""

import csv
import warnings
from pathlib import Path

from tqdm import tqdm

from ctd_lib import processes

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

    A disk that is full is no reason to lose the training: the file is then completed at the end.
    """

    def __init__(
        self, log: TrainLog, steps: int, path: Path | str | None, description: str, accelerator=None
    ):
        """
        Args:
            log: gets the rows; those in it are of the run that was interrupted.
            steps: rows that there will be.
            path: CSV file; None: none.
            description: label of the progress bar, which is on stderr.
            accelerator: has the tracker that is to get the rows; None: none.
        """
        main = processes.is_main()
        self.log, self.accelerator = log, accelerator
        self.path = path if main else None
        self.complete = True
        self.bar = tqdm(
            total=steps, initial=len(log), desc=description, mininterval=1, disable=not main
        )

    def __enter__(self) -> "StepLog":
        self._rewrite()
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()
        if not self.complete:
            self._rewrite()
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
            warnings.warn(
                f"the step log {self.path} cannot be written: {error}; training goes on.",
                stacklevel=2,
            )
        if self.accelerator is not None:
            values = {name: value for name, value in row.items() if value is not None}
            self.accelerator.log(values, step=int(row["step"]))
        speed = f"{row['tokens_per_second']:.0f} tokens/s"
        self.bar.set_postfix_str(f"loss {row['loss']:.3f}, {speed}", refresh=False)
        self.bar.update()

    def _rewrite(self) -> None:
        if self.path is not None:
            with open(self.path, "w", newline="") as file:
                _write(file, self.log, header=bool(self.log))


def _write(file, rows: list[Row], header: bool) -> None:
    writer = csv.writer(file)
    if header:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
