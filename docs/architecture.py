"""Draws the house: ``docs/architecture.svg`` and the table of ``docs/architecture.md``, from the imports as they are.

    python docs/architecture.py            # says whether they are those of the present imports
    python docs/architecture.py --write    # writes them

Rooms and their places in the picture stand in ``docs/walls.yaml``. An arrow is an import; one that follows from others
is left out, as are those to the ground (`GROUND`), and those through walls, of which ``python docs/walls.py`` tells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from html import escape

from walls import BY_NAME, ROOMS, ROOT, Room, breach, imports, room_of

PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- written by docs/architecture.py -->\n", "<!-- end -->\n"

#: rooms that nearly all others stand on: no arrows lead to them
GROUND = ("package", "foundations", "fp_potential/options", "train/errors.py, train/progress.py")
#: rooms that come next: title, second line, floor, left, right
TO_COME = (
    ("train/xc/", "train/bands/, next", 6, 8.1, 9.0),
    ("xc/", "bands/, next", 5, 8.1, 9.0),
)

COLUMN, STOREY, HEIGHT, MARGIN, TOP = 134.0, 84.0, 48.0, 20.0, 64.0
HIGHEST = max(room.floor for room in ROOMS)
#: fill, border and text of the rooms of a folder
COLOURS = {
    "fp_potential": ("#dbe8f8", "#3b6ea8", "#12304f"),
    "train": ("#dcefdc", "#458a4b", "#173d1b"),
    "lammps_plugin": ("#fbe5cf", "#b86f1e", "#4d2c08"),
    "ground": ("#e9e9ee", "#7b7b88", "#2b2b33"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
#: width of a letter over the size of its font, at most on average
WIDE, NARROW = 0.6, 0.54


def arrows() -> list[tuple[Room, Room]]:
    """The imports between rooms that the picture shows."""
    below: dict[str, set[str]] = {room.name: set() for room in ROOMS}
    for found in imports():
        room, target = room_of(found.file), room_of(found.target) if found.inside else None
        if room and target and room is not target and target.name not in GROUND and not breach(found):
            below[room.name].add(target.name)

    def all_below(name: str) -> set[str]:
        return {far for near in below[name] for far in (near, *all_below(near))}

    shown = []
    for name, targets in below.items():
        implied = {far for near in targets for far in all_below(near)}
        shown += [(BY_NAME[name], BY_NAME[target]) for target in sorted(targets - implied)]
    return shown


def x_of(column: float) -> float:
    return MARGIN + COLUMN * column


def top_of(floor: int) -> float:
    return TOP + STOREY * (HIGHEST - floor)


def line_of(room: Room, target: Room) -> list[tuple[float, float]]:
    """Corners of an arrow: straight down where one room is above the other, else with a step below the upper one."""
    start, end = top_of(room.floor) + HEIGHT, top_of(target.floor)
    left, right = max(room.left, target.left), min(room.right, target.right)
    if right - left > 0.1:
        x = x_of((left + right) / 2)
        return [(x, start), (x, end)]
    before = room.right <= target.left
    x, to = x_of(room.right - 0.2 if before else room.left + 0.2), x_of((target.left + target.right) / 2)
    return [(x, start), (x, start + 14), (to, start + 14), (to, end)]


def path(points: Iterable[tuple[float, float]], extra: str) -> str:
    moves = " ".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
    return f'<path d="{moves}" fill="none" {extra}/>'


def text(x: float, y: float, words: str, size: int, colour: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" {extra}>{escape(words)}</text>'


def box(title: str, label: str, floor: int, left: float, right: float, colours: str, to_come: bool = False) -> str:
    """A room: two centred lines in a rectangle.

    Raises:
        ValueError: they do not fit.
    """
    fill, border, ink = COLOURS[colours]
    x, y, width = x_of(left), top_of(floor), COLUMN * (right - left)
    if max(len(title) * 13 * WIDE, len(label) * 11 * NARROW) > width - 8:
        raise ValueError(
            f"{title!r} with {label!r} does not fit into {width:.0f} pixels: shorten it, or give more room"
        )
    style = f'fill="{"none" if to_come else fill}" stroke="{border}"' + (' stroke-dasharray="5 4"' if to_come else "")
    middle, first = x + width / 2, y + (20 if label else 29)
    weight = 'text-anchor="middle"' + ("" if to_come else ' font-weight="600"')
    lines = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="5" {style}/>']
    lines.append(text(middle, first, title, 13, border if to_come else ink, weight))
    if label:
        lines.append(text(middle, y + 37, label, 11, border if to_come else ink, 'text-anchor="middle"'))
    return "\n".join(lines)


def links() -> list[str]:
    """What Python and C++ share without an import: the archive and the operator library."""
    model, export = BY_NAME["lammps_plugin/model"], BY_NAME["fp_potential/export.py"]
    operators, ground = BY_NAME["lammps_plugin/operators"], BY_NAME["foundations"]
    dashed = 'stroke="#b86f1e" stroke-width="1.6" stroke-dasharray="6 4" marker-end="url(#link)"'
    aisle, y = x_of(1.8), top_of(export.floor)
    start = x_of(export.left + 0.08)
    archive = [(start, y), (start, y - 18), (aisle, y - 18), (aisle, y + 24), (x_of(model.right) + 1, y + 24)]
    y, end = top_of(operators.floor) + 24, top_of(ground.floor) + 24
    library = [(x_of(operators.right), y), (aisle, y), (aisle, end), (x_of(ground.left) - 1, end)]
    ink = COLOURS["lammps_plugin"][1]
    return [
        path(archive, dashed),
        text(aisle + 6, top_of(export.floor) - 23, "model.pt", 11, ink),
        path(library, dashed),
        text(aisle + 6, top_of(operators.floor) + HEIGHT + 20, "libfixedpoint_ops.so", 11, ink),
    ]


def picture() -> str:
    """The house as SVG."""
    width, height = x_of(9) + MARGIN, top_of(0) + HEIGHT + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="{FONT}" role="img">',
        "<title>The rooms of the code, and what they import</title>",
        "<defs>",
        *(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0.5 L7.5 4 L0 7.5 z" fill="{colour}"/></marker>'
            for name, colour in (("arrow", "#4a4a55"), ("link", COLOURS["lammps_plugin"][1]))
        ),
        "</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#fbfbfd" stroke="#d5d5dd"/>',
    ]
    x = MARGIN
    legend = (
        ("fp_potential", "fp_potential/  the library", 190),
        ("train", "train/  training", 135),
        ("lammps_plugin", "lammps_plugin/  C++", 175),
        ("ground", "under nearly every room: arrows left out", 300),
    )
    for colours, words, room in legend:
        fill, border, ink = COLOURS[colours]
        out.append(f'<rect x="{x:.0f}" y="21" width="16" height="16" rx="3" fill="{fill}" stroke="{border}"/>')
        out.append(text(x + 23, 33, words, 12, ink))
        x += room
    out.append(path([(x, 29), (x + 30, 29)], 'stroke="#4a4a55" stroke-width="1.4" marker-end="url(#arrow)"'))
    out.append(text(x + 38, 33, "imports (what follows from others left out)", 12, "#2b2b33"))
    solid = 'stroke="#4a4a55" stroke-width="1.4" marker-end="url(#arrow)"'
    out += [path(line_of(*pair), solid) for pair in arrows()]
    out += links()
    for room in ROOMS:
        if room.title or room.name == "foundations":
            colours = "ground" if room.name in GROUND else room.places[0].split("/")[0]
            out.append(box(room.title or room.name, room.label, room.floor, room.left, room.right, colours))
    out += [box(*place, "ground", to_come=True) for place in TO_COME]
    return "\n".join([*out, "</svg>", ""])


def table() -> str:
    """The walls in words."""
    short = {room.name: (room.title or room.name) for room in ROOMS}
    lines = ["| room | what stands in it | may import | the wall, and why |", "|---|---|---|---|"]
    for room in ROOMS:
        name = ", ".join(f"`{place}`" for place in room.places)
        if room.name == "foundations":
            name = "foundations: " + ", ".join(f"`{place.split('/')[-1]}`" for place in room.places)
        inner = ", ".join(short.get(place, place.removeprefix("fp_potential/")) for place in room.may)
        outer = ", ".join(f"*{name}*" for name in room.outside)
        may = "; ".join(part for part in (inner, outer) if part) or "nothing"
        lines.append(f"| {name} | {room.what} | {may} | {room.wall}: {room.why} |")
    return "\n".join(lines) + "\n"


def page(old: str) -> str:
    """The page with its table as it should be.

    Raises:
        ValueError: it has no place for the table.
    """
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no place for the table: the lines\n{BEGIN}{END}")
    return before + BEGIN + table() + END + after


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the house from the imports as they are.")
    parser.add_argument("--write", action="store_true", help="write docs/architecture.svg and the table of the page")
    write = parser.parse_args().write
    wanted = {PICTURE: picture(), PAGE: page(PAGE.read_text(encoding="utf-8"))}
    stale = [file for file, content in wanted.items() if not file.exists() or file.read_text("utf-8") != content]
    for file in stale:
        print(f"{file.relative_to(ROOT)} {'written' if write else 'is not that of the present imports'}")
        if write:
            file.write_text(wanted[file], encoding="utf-8")
    if stale and not write:
        print("python docs/architecture.py --write")
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
