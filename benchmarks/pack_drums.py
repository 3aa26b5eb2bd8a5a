"""Pack the drum hits of `data=drums` from two sets of CC0 samples: src/gan_experiments/data/drums.npz.

    npm pack supersonic-scsynth-samples@0.84.2 && tar xzf supersonic-scsynth-samples-0.84.2.tgz
    apt-get download hydrogen-drumkits && dpkg -x hydrogen-drumkits_*.deb drumkits
    python benchmarks/pack_drums.py package/samples drumkits/usr/share/hydrogen/data/drumkits/Audiophob

Each hit becomes mono at 11,025 Hz, without the silence before it, at most 0.67 s long, its loudest sample 0.95. A file
holds `steps`, the differences from sample to sample (which pack better) of all hits one after another, int16; their
`sizes`, `labels`, `files` and `rate`; and the `names` of the classes. Needs the extra `audio`.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from gan_experiments import sound
from gan_experiments.data.recordings import Form, decode
from gan_experiments.data.waves import DRUMS

RATE, SECONDS, LOUDEST, SILENCE = 11_025, 0.67, 0.95, 0.01
CLASSES = {
    "kick": "bd_*.flac drum_bass_*.flac drum_heavy_kick.flac elec_*_kick.flac",
    "snare": "sn_* drum_snare_* elec_*snare.flac *8bit-snare.wav *garage-city-snare-snappy.wav",
    "hat": "hat_* drum_cymbal_closed.flac drum_cymbal_pedal.flac tbd_perc_hat.flac *hat-light.wav *hhat-paiste*.wav",
    "tom": "drum_tom_* elec_fuzz_tom.flac *tomh.wav *tom-0105.wav *noise-tom?.wav",
    "cymbal": "drum_cymbal_[ohs]* drum_splash_* ride_* elec_cymbal.flac *crash.wav",
    "tabla": "tabla_*",
}
"""The patterns of each class's files."""


def main() -> int:
    """Write the file, and print how many hits each class has."""
    paths = sorted((path for folder in sys.argv[1:] for path in Path(folder).iterdir()), key=lambda path: path.name)
    hits, labels, files = [], [], []
    for label, patterns in enumerate(CLASSES.values()):
        for path in (path for path in paths if any(fnmatch(path.name, pattern) for pattern in patterns.split())):
            hit = decode(path.read_bytes(), Form(RATE, 1, 4 * RATE, normalise=True))[:, 0].astype(np.float64)
            loud = np.nonzero(np.abs(hit) > SILENCE * sound.FULL)[0][0]
            hit = hit[max(0, loud - RATE // 500) :][: round(SECONDS * RATE)]
            hit *= LOUDEST * (sound.FULL - 1) / np.abs(hit).max()
            hits.append(np.rint(hit).astype(np.int16))
            labels.append(label)
            files.append(path.name)
    if not hits:
        print(__doc__)
        return 2
    steps = np.concatenate([np.diff(hit, prepend=np.int16(0)) for hit in hits])
    sizes = np.array([len(hit) for hit in hits])
    np.savez_compressed(
        DRUMS, steps=steps, sizes=sizes, labels=np.array(labels), files=files, names=list(CLASSES), rate=RATE
    )
    counts = ", ".join(f"{name} {labels.count(label)}" for label, name in enumerate(CLASSES))
    print(f"{DRUMS}: {len(hits)} hits ({counts}), {sizes.sum() / RATE:.1f} s, {DRUMS.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
