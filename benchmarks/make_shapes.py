"""Make src/gan_experiments/data/shapes.npz: seats and tables of Debian's package sweethome3d-furniture, as voxels.

    apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture_*.deb furniture
    python benchmarks/make_shapes.py furniture/usr/share/sweethome3d/furniture

It needs trimesh, and takes about a minute. shapes.txt, with the licence and the author of each, is written beside.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.voxels import mesh_of, voxelised

OUT = Path(__file__).parents[1] / "src/gan_experiments/data"
SIDE = 32
CLASSES = ("chair", "sofa", "table")
WORDS = re.compile(r"\b(?:arm)?(chair|stool|sofa|couch|bench|table|desk)s?\b", re.IGNORECASE)
KINDS = {"chair": 0, "stool": 0, "sofa": 1, "couch": 1, "bench": 1, "table": 2, "desk": 2}
OTHER = re.compile(r"lamp|fan\b|bat\b|ottoman|abdominal", re.IGNORECASE)
LARGEST = 2_000_000
LICENCES = {
    "BlendSwap-CC-0": "CC0 1.0",
    "BlendSwap-CC-BY": "CC BY 3.0",
    "KatorLegaz": "CC BY 3.0 US",
    "Reallusion": "CC BY 3.0 US",
    "Scopia": "CC BY 3.0",
}


def entries(catalogue: str) -> list[dict[str, str]]:
    """Return the entries of a catalogue, a Java properties file, in order."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", catalogue, re.MULTILINE):
        found[int(number)][key] = value.strip()
    return [found[number] for number in sorted(found)]


def main() -> None:
    grids, labels, rows = [], [], []
    for path in sorted(Path(sys.argv[1]).glob("*.sh3f")):
        archive = zipfile.ZipFile(path)
        for entry in entries(archive.read("PluginFurnitureCatalog.properties").decode("latin-1")):
            name, model = entry.get("name", ""), entry.get("model", "").lstrip("/")
            word = WORDS.search(name)
            if not word or OTHER.search(name) or not model.lower().endswith(".obj"):
                continue
            if archive.getinfo(model).file_size > LARGEST:
                continue
            try:
                vertices, faces, closed = mesh_of(archive.read(model), ".obj")
                if "modelRotation" in entry:
                    vertices = vertices @ np.array(entry["modelRotation"].split(), dtype=float).reshape(3, 3).T
                grid = voxelised(vertices, faces, SIDE, closed)
            except UnreadableImageError as error:
                print(f"left out {path.stem}/{name}: {error}", file=sys.stderr)
                continue
            if any((grid == other).all() for other in grids):
                continue
            grids.append(grid)
            labels.append(KINDS[word[1].lower()])
            rows.append(f"{len(rows):4} {CLASSES[labels[-1]]:6} {LICENCES[path.stem]:13} {name}, by {entry['creator']}")
    packed = np.packbits(np.stack(grids).reshape(len(grids), -1), axis=1)
    np.savez_compressed(OUT / "shapes.npz", voxels=packed, labels=np.array(labels, dtype=np.uint8))
    head = (
        f"shapes.npz: {len(grids)} seats and tables as voxels, {SIDE} a side: `voxels` uint8, the bits of bool\n"
        f"[{len(grids)}, {SIDE}, {SIDE}, {SIDE}] (front to back, top down, left to right), and `labels`, of\n"
        f"{', '.join(f'{n} {name}' for n, name in enumerate(CLASSES))}.\n\n"
        "Source: the 3D models of Sweet Home 3D, as Debian packages them (sweethome3d-furniture 1.8), voxelised by\n"
        "benchmarks/make_shapes.py: that is the only change. The licence of this repository's code does not apply to\n"
        "shapes.npz. CC BY asks that the authors below are named wherever the shapes are passed on.\n\n"
        "row  class  licence       object, author\n"
    )
    (OUT / "shapes.txt").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    print(len(grids), np.bincount(labels), (OUT / "shapes.npz").stat().st_size, "occupied", np.stack(grids).mean())


if __name__ == "__main__":
    main()
