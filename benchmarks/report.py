"""The table on the terminal, and docs/benchmarks.md with its plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Figures, Outcome

PAGE = """\
# Benchmarks

Measured by `make bench` (`python -m benchmarks.suite`), which wrote this page; nothing here is typed by hand.
{machine}. The figures are medians, with the least and the most in brackets; the entrants of one contest took
turns. A ratio is ours to the peer that the goal names. The settings say what a crash may lose.

![Ratios to the goals](benchmarks.svg)

| target | what | ours | goal | ratio | reached |
|---|---|---|---|---|---|
{summary}

## Each contest

{contests}
"""
WIDE, BAR, LEFT = 900, 26, 430


def show(outcomes: Sequence[Outcome], *, before: Sequence[Outcome] = ()) -> None:
    """Print every contest: a line per entrant, then the verdict, and what changed since the last record."""
    earlier = {(each.target, each.name): each for each in before}
    for each in outcomes:
        print(f"\n{each.target}  {each.name}  [{each.unit}]   goal {each.goal}")
        for figures in each.figures:
            mark = "*" if figures.is_ours else " "
            print(f"    {mark} {figures.name:42} {value(figures):>34}  {figures.settings}")
        print(f"      {verdict(each)}{_since(each, earlier.get((each.target, each.name)))}")


def _since(now: Outcome, before: Outcome | None) -> str:
    ours, then = _ours(now), _ours(before) if before else None
    if ours is None or then is None or not then.median:
        return ""
    return f"; {ours.median / then.median:.2f} x the recorded figure"


def value(figures: Figures) -> str:
    if figures.missing:
        return figures.missing[:60]
    if not figures.values:
        return "-"
    middle = _number(figures.median)
    least, most = _number(min(figures.values)), _number(max(figures.values))
    return middle if len(figures.values) == 1 else f"{middle} ({least} to {most})"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def verdict(each: Outcome) -> str:
    ratio = "" if each.ratio is None else f"ratio {each.ratio:.2f}: "
    reached = {True: "reached", False: "NOT reached", None: "not told here"}[each.is_reached]
    return f"{ratio}{reached}"


def _ours(each: Outcome) -> Figures | None:
    return next((figures for figures in each.figures if figures.is_ours and figures.values), None)


# --- the page -------------------------------------------------------------------------------------


def write(docs: Path, machine: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """Write docs/benchmarks.md and its plot."""
    told = ", ".join(f"{name} {text}" for name, text in machine.items())
    summary = "\n".join(_line(each) for each in outcomes)
    contests = "\n".join(_section(each) for each in outcomes)
    page = PAGE.format(machine=told, summary=summary, contests=contests)
    (docs / "benchmarks.md").write_text(page.rstrip() + "\n")
    (docs / "benchmarks.svg").write_text(plot(outcomes))


def _line(each: Outcome) -> str:
    ours = _ours(each)
    mine = "-" if ours is None else f"{value(ours)} {each.unit}"
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    reached = {True: "yes", False: "**no**", None: "not told"}[each.is_reached]
    return f"| {each.target} | {each.name} | {mine} | {each.goal} | {ratio} | {reached} |"


def _section(each: Outcome) -> str:
    rows = "\n".join(_row(figures) for figures in each.figures)
    note = f"\n\n{each.note[0].upper()}{each.note[1:]}." if each.note else ""
    return (
        f"### {each.target}: {each.name}\n\n| who | {each.unit} | settings |\n|---|---|---|\n{rows}{note}\n"
    )


def _row(figures: Figures) -> str:
    name = f"**{figures.name}**" if figures.is_ours else figures.name
    return f"| {name} | {value(figures)} | {figures.settings} |"


def plot(outcomes: Sequence[Outcome]) -> str:
    """Bars: how far each contest with a ratio is from its goal; 1 is the goal itself."""
    bars = [each for each in outcomes if each.ratio is not None]
    longest = max((_share(each) for each in bars), default=1.0)
    height = BAR * (len(bars) + 2)
    unit = (WIDE - LEFT - 90) / max(longest, 1.0)
    rows = [_bar(each, number, unit) for number, each in enumerate(bars, 1)]
    line = f'<line x1="{LEFT + unit:.0f}" y1="8" x2="{LEFT + unit:.0f}" y2="{height - BAR}" stroke="#888"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{height}" font-family="sans-serif"'
    )
    return "\n".join([f'{head} font-size="12">', *rows, line, "</svg>"]) + "\n"


def _share(each: Outcome) -> float:
    """Our figure in units of the goal: from 1 on it is reached."""
    wanted, ratio = each.wanted or 1.0, each.ratio or 0.0
    if each.more_is_better:
        return ratio / wanted
    return wanted / ratio if ratio else 0.0


def _bar(each: Outcome, number: int, unit: float) -> str:
    top, share = number * BAR - 12, _share(each)
    colour = "#2a7" if share >= 1 else "#c63"
    label = (
        f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{each.target} {_escaped(each.name)}</text>'
    )
    bar = f'<rect x="{LEFT}" y="{top}" width="{share * unit:.0f}" height="18" fill="{colour}"/>'
    text = f'<text x="{LEFT + share * unit + 5:.0f}" y="{top + 14}">{share:.2f} x goal</text>'
    return label + bar + text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
