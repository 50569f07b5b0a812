"""Pieces of pages made from tables and figures: MyST Markdown that the book's pages include."""

import re

import pandas as pd
from matplotlib.figure import Figure

from ctd_lib import paths

_MINUS = "\N{MINUS SIGN}"
_CHANGE = re.compile("change|conversion|distillation")
_UNIT = re.compile(r"\((?P<unit>[^()]+)\)$")
_DECIMALS = {
    "%": 1,
    "ms": 0,
    "MiB": 0,
    "M": 1,
    "score": 3,
    "nats": 2,
    "s": 0,
    "tokens/s": 0,
    "GFLOP/s": 0,
    "points": 1,
}


def write_table(name: str, caption: str, frame: pd.DataFrame, profile: str, notes: str) -> None:
    """Write a table as CSV and as the fragment that pages include."""
    folder = paths.book_generated() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{name}.csv", index=False)
    text = table(name, caption, frame, profile, notes)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def write_figure(name: str, caption: str, drawing: Figure, alt: str, profile: str) -> None:
    """Write a figure as SVG, PNG and text alternative, and the fragment that pages include."""
    folder = paths.book_generated() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawing.savefig(folder / f"{name}.svg", metadata={"Date": None})
    drawing.savefig(folder / f"{name}.png", dpi=200)
    (folder / f"{name}.alt.txt").write_text(alt + "\n", encoding="utf-8")
    text = figure(name, caption, alt, profile)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def table(name: str, caption: str, frame: pd.DataFrame, profile: str, notes: str) -> str:
    """A numbered table with its notes, its CSV file and its records."""
    kind = " of-machines" if frame.columns[0] == "machine" else ""
    return "\n".join(
        [
            f"```{{table}} {caption}",
            f":name: table-{name}",
            f":class: sortable{kind}",
            "",
            *lines(frame),
            "```",
            "",
            origin("table", name, "csv", profile, notes),
        ]
    )


def lines(frame: pd.DataFrame) -> list[str]:
    """A table in Markdown: heading, rule and rows."""
    header = "| " + " | ".join(frame.columns) + " |"
    numeric = [any(not isinstance(value, str) for value in frame[column]) for column in frame]
    rule = "|" + "|".join("---:" if right else "---" for right in numeric) + "|"
    rows = [
        "| " + " | ".join(cell(row[column], column) for column in frame.columns) + " |"
        for row in frame.to_dict("records")
    ]
    return [header, rule, *rows]


def figure(name: str, caption: str, alt: str, profile: str) -> str:
    """A numbered figure with its text alternative, its files and its records."""
    return "\n".join(
        [
            f"```{{figure}} /book/generated/figures/{name}.svg",
            f":name: figure-{name}",
            f":alt: {alt}",
            caption,
            "```",
            "",
            origin("figure", name, "png", profile),
        ]
    )


def origin(kind: str, name: str, suffix: str, profile: str, notes: str = "") -> str:
    """A line of notes, then the file to download, the records and the notebook.

    Paths start at the top, so that a page in any folder may include the fragment.
    """
    file = f"/book/generated/{kind}s/{name}.{suffix}"
    return (
        "```{rst-class} origin\n```\n"
        f"{notes} {{download}}`{suffix.upper()} <{file}>`, "
        f"from the [records](/book/provenance.md) in `results/{profile}`, "
        "by {download}`06_report.ipynb </notebooks/06_report.ipynb>`\n"
    )


def cell(value: object, column: str) -> str:
    """A value as the page shows it: decimals by the unit that the heading ends in."""
    if isinstance(value, str):
        return value.replace("|", "\\|")
    unit = _UNIT.search(column)
    unit = unit["unit"] if unit else ""
    if unit in _DECIMALS:
        sign = "+" if _CHANGE.search(column) else ""
        digits = _DECIMALS[unit]
        if unit in ("ms", "s") and abs(value) < 10:
            digits = 2
        return f"{value:{sign},.{digits}f}".replace("-", _MINUS)
    if float(value).is_integer():
        return f"{int(value):,}" if unit else str(int(value))
    return f"{value:.2g}"


def summary(headline: pd.DataFrame, archs: tuple[str, ...], profile: str) -> str:
    """What the headline table says of these archs, in sentences whose numbers come from it."""
    rows = headline.set_index("arch")
    means = {
        start: _mean(rows.loc[list(archs), column])
        for start in ("score kept", "time, change", "memory, change")
        for column in headline
        if column.startswith(start)
    }
    [kept] = [column for column in headline if column.startswith("score kept")]
    mark = kept.removeprefix("score kept").removesuffix(" (%)")
    of_paper = rows.loc["paper, mean"]
    return (
        f"Mean over {', '.join(archs)}, the small models of profile `{profile}` themselves: the "
        "student of half the depth keeps "
        f"**{means['score kept']}** of its teacher's score{mark}; its time changes by "
        f"**{means['time, change']}** (the paper: {_percent(of_paper['time, change (%)'], '+')}), "
        f"its peak memory by **{means['memory, change']}** "
        f"(the paper: {_percent(of_paper['memory, change (%)'], '+')}).\n"
    )


def _mean(values: pd.Series) -> str:
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    sign = "+" if "change" in str(values.name) else ""
    return _percent(numbers.mean(), sign) if len(numbers) else values.iloc[0]


def _percent(value: float, sign: str = "") -> str:
    return f"{value:{sign}.1f} %".replace("-", _MINUS)
