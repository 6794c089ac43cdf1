"""The table on the terminal, and docs/benchmarks.md with its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Figures, Outcome
from benchmarks.record import Record, key_of

TEXTS = Path(__file__).resolve().parent / "page"  # what people wrote about the figures
PAGE = """\
# Benchmarks

Measured by `make bench` (`python -m benchmarks.suite`), which wrote this page.
{machine}; measured from {first} to {last}. The figures are medians, with the least and the most in
brackets; the entrants of one contest took turns. A ratio is ours to the peer that the goal names. Settings
say what a crash may lose.

![Ratios to the goals](benchmarks.svg)

| target | what | ours | goal | ratio | reached |
|---|---|---|---|---|---|
{summary}
{notes}
## Each contest

{contests}
"""
WIDE, BAR, LEFT = 900, 26, 430
MOST = 5.0  # times the goal: a bar is cut there


def show(outcomes: Sequence[Outcome], *, before: Sequence[Outcome] = ()) -> None:
    """Print every contest: a line per entrant and the verdict; then one line for each."""
    earlier = {key_of(each): each for each in before}
    for each in outcomes:
        print(f"\n{each.target}  {each.name}  [{each.unit}]   goal {each.goal}")
        for figures in each.figures:
            mark = "*" if figures.is_ours else " "
            print(f"    {mark} {figures.name:48} {value(figures):>34}  {figures.settings}")
        print(f"      {verdict(each)}{since(each, earlier.get(key_of(each)))}")
    print()
    for each in outcomes:
        print(f"{each.target:4} {each.name:76} {_mine(each):>14} {each.unit:14} {verdict(each)}")


def since(now: Outcome, before: Outcome | None) -> str:
    """How our figure stands to the one on record: as a ratio, and whether that is worse by a fifth."""
    if now.ours is None or before is None or before.ours is None or not before.ours.median:
        return ""
    ratio = now.ours.median / before.ours.median
    is_worse = ratio < 0.8 if now.more_is_better else ratio > 1.25
    return f"; {ratio:.2f} x the recorded figure{': WORSE' if is_worse else ''}"


def value(figures: Figures) -> str:
    """The median with its range, or why there is none."""
    if figures.missing:
        return figures.missing[:120]
    if not figures.values:
        return "-"
    middle = _number(figures.median)
    least, most = _number(min(figures.values)), _number(max(figures.values))
    return middle if len(figures.values) == 1 else f"{middle} ({least} to {most})"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def _mine(each: Outcome) -> str:
    return _number(each.ours.median) if each.ours else "-"


def verdict(each: Outcome) -> str:
    """Whether the goal is reached, and by how much."""
    ratio = "" if each.ratio is None else f"{each.ratio:.2f} x {each.peer}: "
    behind = f", behind {', '.join(each.behind)}" if each.behind else ""
    reached = {True: "reached", False: "NOT reached", None: "not told here"}[each.is_reached]
    return f"{ratio}{reached}{behind}"


# --- the page -------------------------------------------------------------------------------------


def write(docs: Path, record: Record) -> None:
    """Write docs/benchmarks.md and its plot."""
    outcomes = list(record.outcomes.values())
    moments = sorted(each.held_at for each in outcomes)
    page = PAGE.format(
        machine=", ".join(f"{name} {text}" for name, text in record.machine.items()),
        first=moments[0],
        last=moments[-1],
        summary="\n".join(_line(each) for each in outcomes),
        notes=_notes(),
        contests="\n".join(_section(each) for each in outcomes),
    )
    (docs / "benchmarks.md").write_text(page.rstrip() + "\n")
    (docs / "benchmarks.svg").write_text(plot(outcomes))


def _notes() -> str:
    """What is said about goals that are not reached; a file of its own, so that the page can be rewritten."""
    texts = [each.read_text().strip() for each in sorted(TEXTS.glob("*.md"))]
    return "\n" + "\n\n".join(texts) + "\n" if texts else ""


def _line(each: Outcome) -> str:
    mine = f"{value(each.ours)} {each.unit}" if each.ours else "-"
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    reached = {True: "yes", False: "**no**", None: "not told"}[each.is_reached]
    return f"| {each.target} | {each.name} | {mine} | {_cell(each.goal)} | {ratio} | {reached} |"


def _section(each: Outcome) -> str:
    rows = "\n".join(_row(figures) for figures in each.figures)
    note = f"{each.note[0].upper()}{each.note[1:]}. " if each.note else ""
    return (
        f"### {each.target}: {each.name}\n\n| who | {each.unit} | settings |\n|---|---|---|\n{rows}\n\n"
        f"Goal: {each.goal}. {verdict(each)[0].upper()}{verdict(each)[1:]}. {note}\n"
    )


def _row(figures: Figures) -> str:
    name = f"**{figures.name}**" if figures.is_ours else figures.name
    return f"| {name} | {_cell(value(figures))} | {figures.settings} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def plot(outcomes: Sequence[Outcome]) -> str:
    """Bars: how far each contest with a ratio is from its goal; 1 is the goal itself."""
    bars = [each for each in outcomes if share(each) is not None]
    longest = max((min(MOST, share(each) or 0.0) for each in bars), default=1.0)
    height = BAR * (len(bars) + 2)
    unit = (WIDE - LEFT - 90) / max(longest, 1.0)
    rows = [_bar(each, number, unit) for number, each in enumerate(bars, 1)]
    line = f'<line x1="{LEFT + unit:.0f}" y1="8" x2="{LEFT + unit:.0f}" y2="{height - BAR}" stroke="#888"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{height}" font-family="sans-serif"'
    )
    return "\n".join([f'{head} font-size="12">', *rows, line, "</svg>"]) + "\n"


def share(each: Outcome) -> float | None:
    """Our figure in units of the goal: from 1 on it is reached. None: it has no figure."""
    found = each.ours.median if each.ratio is None and each.ours else each.ratio
    if found is None or not each.wanted:
        return None
    if each.more_is_better:
        return found / each.wanted
    return each.wanted / found if found else MOST


def _bar(each: Outcome, number: int, unit: float) -> str:
    top, reached = number * BAR - 12, share(each) or 0.0
    wide = min(MOST, reached) * unit
    colour = "#2a7" if each.is_reached else "#c63"
    label = (
        f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{each.target} {_escaped(each.name)}</text>'
    )
    bar = f'<rect x="{LEFT}" y="{top}" width="{wide:.0f}" height="18" fill="{colour}"/>'
    text = f'<text x="{LEFT + wide + 5:.0f}" y="{top + 14}">{reached:.2f} x goal</text>'
    return label + bar + text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
