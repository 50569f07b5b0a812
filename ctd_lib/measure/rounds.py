"""Rounds: every contender runs once, a calibration before and after, disturbed rounds again."""

from collections.abc import Callable, Hashable
from typing import TypeVar

from ctd_lib.measure import failures
from ctd_lib.measure.machine import Calibration

Name = TypeVar("Name", bound=Hashable)


def interleave(
    contenders: dict[Name, Callable[[], float]],
    repeats: int,
    burn_in: int = 1,
    calibration: Calibration | None = None,
) -> dict[Name, list[float] | str]:
    """Seconds of each contender in the rounds that count, in order.

    A round is disturbed if the calibration before it or after it was slow. It is thrown away as a
    whole and run again, in all at most `repeats` times, after which disturbed rounds count too:
    on a machine that never rests there would be no end.

    Args:
        contenders: each call runs one forward and returns its seconds.
        repeats: rounds that count.
        burn_in: rounds before them that do not.
        calibration: counts the rounds; None: no round is disturbed.

    Returns:
        `repeats` seconds each, or the sentence that explains why a contender has none.
    """
    found: dict[Name, list[float] | str] = {name: [] for name in contenders}
    for _ in range(burn_in):
        _round(contenders, found)
    quiet_before, kept, again = _quiet(calibration), 0, repeats
    while kept < repeats and (seconds := _round(contenders, found)):
        quiet_after = _quiet(calibration)
        disturbed, quiet_before = not (quiet_before and quiet_after), quiet_after
        if calibration is not None:
            calibration.rounds += 1
            calibration.disturbed += disturbed
        if disturbed and again:
            again -= 1
            continue
        kept += 1
        for name, value in seconds.items():
            found[name].append(value)
    return found


def _round(contenders: dict, found: dict) -> dict:
    """Seconds of those who ran; who could not has a sentence in `found` and is not asked again."""
    seconds = {}
    for name, run in contenders.items():
        if isinstance(found[name], str):
            continue
        try:
            seconds[name] = run()
        except Exception as error:
            if (sentence := failures.explained(error)) is None:
                raise
            found[name] = sentence
    return seconds


def _quiet(calibration: Calibration | None) -> bool:
    try:
        return calibration is None or calibration.quiet()
    except RuntimeError as error:
        if failures.explained(error) is None:
            raise
        return False  # the GPU is gone, as the next round will find
