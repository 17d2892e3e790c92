"""Dividing a region of cells into boxes: for threads (by their number) and for sums (by the grid alone)."""

from __future__ import annotations

import numpy as np

from sftsolve.state import Layout

# Rows of a plane that a thread works on before it goes on to the next plane, so that the planes of a stencil stay in a cache:
# where only forces are written, and where fields are updated in place.
BLOCK, ROWS = 64, 32
LINE = 16  # cells of a row that fill whole cache lines in every type
PAIR = 2  # planes that steps work on together
COLUMNS = 4096  # cells of a row in one partial sum, or up to twice as many

Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def whole(layout: Layout) -> Region:
    """All interior cells in storage indices, ((z0, z1), (y0, y1), (x0, x1))."""
    return tuple((start, start + n) for start, n in zip(layout.offset, layout.shape, strict=True))  # type: ignore[return-value]


def cells(region: Region) -> int:
    """How many cells a region holds."""
    return int(np.prod([max(0, stop - start) for start, stop in region]))


def for_threads(region: Region, parts: int, least: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    """Boxes (n, 6) of a region in at most `parts` slabs of its outermost long axis; consecutive boxes belong to one slab.

    Slabs keep to whole lines along x, elsewhere to multiples of `least` (z, y, x): which cells sweeps work on together must not
    depend on `parts`, since the last bit of a sum does on that. No box is smaller than `least` unless the region is.
    """
    (z0, z1), (y0, y1), (x0, x1) = region
    if cells(region) == 0:
        return np.empty((0, 6), np.int64)
    extents = (z1 - z0, y1 - y0, x1 - x0)
    long = next((axis for axis, n in enumerate(extents) if n >= parts * least[axis]), 2)
    parts = max(1, min(parts, extents[long] // least[long]))
    boxes = []
    for part in range(parts):
        bounds = [list(pair) for pair in region]
        start, n = region[long][0], extents[long]
        step = LINE if long == 2 else least[long]
        bounds[long] = [start + _cut(n, cut, parts, step) for cut in (part, part + 1)]
        rows = BLOCK if parts > 1 and long == 0 else max(1, bounds[1][1] - bounds[1][0])
        boxes += [[*bounds[0], *between, *bounds[2]] for between in _blocks(bounds[1][0], bounds[1][1], rows)]
    return np.array([box for box in boxes if box[0] < box[1] and box[4] < box[5]], np.int64).reshape(-1, 6)


def _blocks(start: int, stop: int, rows: int) -> list[tuple[int, int]]:
    """Blocks of `rows` to 2 `rows` - 1 rows (or columns), or one of all."""
    pieces = max(1, (stop - start) // rows)
    cuts = [start + (stop - start) * cut // pieces for cut in range(pieces + 1)]
    return list(zip(cuts[:-1], cuts[1:], strict=True))


def for_steps(region: Region, parts: int, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Work of a sweep that changes fields by forces, in place `reach` cells behind these: slabs of z, in blocks of rows.

    Which cells share planes and block does not depend on `parts`, so that sums over them do not either. Rows that lie alone are
    blocks along x.

    Returns
    -------
    boxes : (n, 9), the cells of a block whose forces are evaluated, the rows (ya, yb) whose fields follow, the number of the
        block among those of its planes; in the order of work
    slabs : (parts + 1,), the boxes of slab n are slabs[n] to slabs[n + 1]
    edges : (m, 6), what has to wait until all slabs are done
    """
    (z0, z1), (y0, y1), columns = region
    if z1 - z0 == 1 and y1 - y0 == 1:
        pieces = max(1, (columns[1] - columns[0]) // COLUMNS)
        cuts = [columns[0] + _cut(columns[1] - columns[0], piece, pieces, LINE) for piece in range(pieces + 1)]
        rows = [[z0, z1, y0, y1, *cut, y0, y1, number] for number, cut in enumerate(zip(cuts[:-1], cuts[1:], strict=True))]
        parts = max(1, min(parts, pieces))
        return np.array(rows, np.int64), np.arange(parts + 1) * pieces // parts, np.empty((0, 6), np.int64)
    parts = max(1, min(parts, (z1 - z0) // 2))
    cuts = [z0 + _cut(z1 - z0, part, parts, PAIR) for part in range(parts + 1)]
    boxes, edges = [], []
    blocks = _blocks(y0, y1, ROWS)
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        for number, (first, last) in enumerate(blocks):
            behind = [max(y0, first - reach) if first > y0 else y0, max(y0, last - reach) if last < y1 else y1]
            boxes.append([start, stop, first, last, *columns, *behind, number])
        lower = min(start + reach, stop)
        edges += [[*ends, y0, y1, *columns] for ends in ((start, lower), (max(stop - reach, lower), stop)) if ends[0] < ends[1]]
    slabs = np.arange(parts + 1) * len(blocks)
    return np.array(boxes, np.int64), slabs, np.array(edges, np.int64).reshape(-1, 6)


def _cut(n: int, part: int, parts: int, step: int) -> int:
    """Where slab `part` of `parts` slabs of n cells starts: at a multiple of `step`."""
    cut = n * part // parts
    return n if part == parts else cut - cut % step


def for_sums(region: Region) -> np.ndarray:
    """Boxes of a region for partial sums; they depend on the region alone, so sums do not depend on threads."""
    (z0, z1), (y0, y1), (x0, x1) = region
    return np.array(
        [
            [z, z + 1, y, min(y + ROWS, y1), *columns]
            for z in range(z0, z1)
            for y in range(y0, y1, ROWS)
            for columns in _blocks(x0, x1, COLUMNS)
        ],
        np.int64,
    ).reshape(-1, 6)


def layers(region: Region, depth: tuple[int, int, int]) -> tuple[Region, list[Region]]:
    """(core, shell): the region without `depth` cells at both ends of each axis, and what that leaves in disjoint regions."""
    core = list(region)
    shell: list[Region] = []
    for axis, cut in enumerate(depth):
        start, stop = core[axis]
        if cut == 0:
            continue
        inner = (min(start + cut, stop), max(stop - cut, min(start + cut, stop)))
        for ends in ((start, inner[0]), (inner[1], stop)):
            part = list(core)
            part[axis] = ends
            if cells(tuple(part)) > 0:  # type: ignore[arg-type]
                shell.append(tuple(part))  # type: ignore[arg-type]
        core[axis] = inner
    return tuple(core), shell  # type: ignore[return-value]
