"""How the shipped detector grew: AP on wider_face/dev over the crops it had seen, from the table in its model card.

python benchmarks/compact_curve.py -o docs/compact_curve.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

CARD = Path(__file__).parents[1] / "facedet" / "weights" / "compact.md"
HEADER = "| run | parameters | photos | crops seen |"
LEVELS = ("easy", "medium", "hard")
COLOURS = ("tab:green", "tab:blue", "tab:red")


@dataclass(frozen=True)
class Row:
    """A line of the table. native, at_640: AP easy, medium and hard; the second empty where it was not measured."""

    parameters_m: float
    photos: int
    crops: int
    native: tuple[float, ...]
    at_640: tuple[float, ...]


def rows_of(card: str) -> list[Row]:
    """The table's lines, in order. Raises ValueError when the card has no such table."""
    lines = card.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(HEADER)), None)
    if first is None:
        raise ValueError(f"no table that begins with {HEADER}")
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        _, parameters, photos, crops, native, at_640 = (cell.strip() for cell in line.strip("|").split("|"))
        size, seen = float(parameters.removesuffix(" M")), int(crops.replace(",", ""))
        rows.append(Row(size, int(photos.replace(",", "")), seen, _figures(native), _figures(at_640)))
    return rows


def _figures(cell: str) -> tuple[float, ...]:
    return tuple(float(part) for part in cell.split("/")) if cell else ()


def draw(rows: list[Row], path: Path) -> None:
    """Write the curves as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for level, (name, colour) in enumerate(zip(LEVELS, COLOURS, strict=True)):
        left.plot([r.crops / 1e6 for r in rows], [r.native[level] for r in rows], "o-", ms=3, color=colour, label=name)
        small = [r for r in rows if r.at_640]
        left.plot([r.crops / 1e6 for r in small], [r.at_640[level] for r in small], ":", color=colour)
        dots = [40 * r.parameters_m**2 for r in rows]
        right.scatter([r.photos for r in rows], [r.native[level] for r in rows], s=dots, color=colour)
    left.set(xlabel="crops seen, million", ylabel="AP on wider_face/dev", title="native (dotted: 640 px)")
    right.set(xlabel="photos of the training set", title="native; larger dots have more parameters (0.63 to 1.10 M)")
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(str(path), dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG file to write")
    arguments = parser.parse_args()
    draw(rows_of(CARD.read_text(encoding="utf-8")), arguments.out)
    print(f"wrote {arguments.out}")
