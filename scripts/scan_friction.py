"""Which friction brings a field to rest soonest? A parameter scan with the Python API.

The cost D/2 |grad w|^2 + m/2 w^2 has frequencies omega(k)^2 = m + D k^2. Below gamma = 2 omega_min the slowest wave swings,
above it creeps; just there it comes to rest soonest. The table shows the time until the energy has fallen to a millionth.

    python scripts/scan_friction.py [picture.png]
"""

import argparse
from pathlib import Path

import numpy as np

import sftsolve as sft
from sftsolve.plot import picture_path

MASS, STIFFNESS, LEVEL = 1.0, 1e-3, 1e-6
RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # gamma / (2 omega_min)


def time_to_rest(gamma: float) -> float:
    """Time t at which the energy has fallen to LEVEL times what it was."""
    slowest = min(gamma / 2, MASS / gamma if gamma > 2 else np.inf)
    grid = sft.Grid(shape=(64,), length=(1.0,))
    action = sft.Action(
        fields=["w"],
        cost="D/2*grad2(w) + m/2*w**2",
        parameters={"m": MASS, "D": STIFFNESS},
        friction=sft.Friction(gamma=gamma),
    )
    end = 12.0 / slowest
    start = {"w": "1 + sin(2*pi*x) + cos(6*pi*x)"}
    result = sft.solve(action, grid, initial=start, end=end, clock="t", rtol=1e-6, scalars_every=end / 400, progress=False)
    energy, times = result.scalars["energy"], result.scalars["t"]
    above = np.flatnonzero(energy > LEVEL * energy[0])
    return float(times[min(above[-1] + 1, len(times) - 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", help="where to draw the time to rest against gamma")
    options = parser.parse_args()
    try:
        scan(picture_path(options.picture) if options.picture else None)
    except sft.SftError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def scan(picture: Path | None) -> None:
    """Print a table, and draw a picture if there is a place for one."""
    gammas = [2 * np.sqrt(MASS) * ratio for ratio in RATIOS]
    times = [time_to_rest(gamma) for gamma in gammas]
    print("gamma / 2 omega_min   time to rest")
    for ratio, time in zip(RATIOS, times, strict=True):
        print(f"{ratio:>19g}   {time:>12.1f}")
    if picture:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.loglog(RATIOS, times, "o-")
        axes.set(xlabel="gamma / 2 omega_min", ylabel="time t until the energy is 1e-6 of what it was")
        figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main()
