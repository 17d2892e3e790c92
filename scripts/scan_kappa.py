"""Which stiffness do few training images want? A scan of kappa over the filter of data/mnist-stiffness.toml.

With twenty images, each pixel's own filter learns their noise by heart at kappa = 0; kappa -> infinity leaves one convolution for
all pixels. The optimum between them, which is flat, is read off the held-out images themselves. Large kappa is stiff, and the
steps do not see it: their number falls. All values run the same compiled code.

    python scripts/scan_kappa.py [--kappa 0,1,100] [picture.png]
"""

import argparse
import math
from pathlib import Path

import sftsolve as sft
from sftsolve.config import Denoising, load
from sftsolve.network import held_out_table
from sftsolve.plot import picture_path

FILE = Path(__file__).resolve().parents[1] / "data" / "mnist-stiffness.toml"
KAPPAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def train(kappa: float) -> tuple[sft.Result, dict[str, float]]:
    """The run at a stiffness kappa, and the held-out PSNR in dB of its filter and of the baselines."""
    config, _ = load(FILE, [f"network.kappa={kappa!r}"])
    job = config.build(FILE.name)
    assert isinstance(job.experiment, Denoising)
    result = sft.solve(job.action, job.grid, **(job.options | {"output": None, "progress": False}))
    return result, held_out_table(job.experiment.network, result.w[-1], job.experiment.images)


def draw(picture: Path, kappas: list[float], learned: list[float], baselines: dict[str, float]) -> None:
    """PSNR against kappa, with what it has to beat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(kappas, learned, "o-", color="#0072B2", label="learned, one filter per pixel")
    for (name, level), colour, style in zip(baselines.items(), ("#D55E00", "#009E73"), ("--", ":"), strict=True):
        axes.axhline(level, color=colour, ls=style, label=name)
    axes.set_xscale("symlog", linthresh=0.01, linscale=0.5)
    axes.set(xlabel="stiffness kappa (pixels squared)", ylabel="PSNR of held-out images (dB)", title="20 training images")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", frameon=False)
    figure.savefig(picture, dpi=150)


def stiffnesses(text: str) -> list[float]:
    """The numbers of a list such as "0,1,100"."""
    try:
        found = [float(entry) for entry in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(0.0 <= kappa < math.inf for kappa in found):
        raise argparse.ArgumentTypeError(f"expected numbers >= 0 with commas between, such as 0,1,100; given {text!r}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", help="where to draw PSNR against kappa")
    parser.add_argument("--kappa", type=stiffnesses, default=list(KAPPAS), help="numbers >= 0 with commas between")
    options = parser.parse_args()
    try:
        scan(options.kappa, picture_path(options.picture) if options.picture else None)
    except sft.SftError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def scan(kappas: list[float], picture: Path | None) -> None:
    """Print a table, and draw a picture if there is a place for one."""
    print(f"{'kappa':>7}  {'PSNR/dB':>7}  {'steps':>6}  {'forces':>6}  {'time/s':>6}  method")
    learned = []
    for kappa in kappas:
        result, table = train(kappa)
        learned.append(table["learned"])
        stats = result.stats
        counts = f"{stats.steps:>6}  {stats.force_evaluations:>6}  {stats.wall_time:>6.2f}  {stats.method}"
        print(f"{kappa:>7g}  {table['learned']:>7.2f}  {counts}", flush=True)
    baselines = {"best single convolution": table["convolution"], "best Gaussian blur": table["gaussian"]}
    for name, level in {**baselines, "noisy": table["noisy"]}.items():
        print(f"{name}: {level:.2f} dB")
    if picture:
        draw(picture, kappas, learned, baselines)


if __name__ == "__main__":
    main()
