"""What every verb says to every model: a small run of each, and each verb typed on it.

    python benchmarks/verbs.py                      # every file of conf/model/, some ten minutes of one core
    python benchmarks/verbs.py --models damsm gan   # some

A verb does its work or says in one line, with status 2, why a model is not for it. Prints a table of the verbs that did
their work, and then every line of the others, with what is no such line in capitals.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "tests")]

FEW = ["metrics.num_fake=8", "metrics.num_real=4", "metrics.batch_size=4"]
VERBS: dict[str, list[str]] = {
    "sample": ["n=4", "singles=true", "interpolation=2"],
    "translate": ["images=photos"],
    "evaluate": ["metrics=digits", *FEW],
    "evaluate by_class": ["metrics=digits", "by_class=true", *FEW],
    "evaluate pictures": ["metrics=digits", "pictures=true", *FEW],
    "evaluate standing": ["metrics=digits", "standing_statistics=1", *FEW],
    "usefulness": ["n=8", "steps=1", "seeds=1", "parts=[1]"],
    "explore truncation": ["what=truncation", "what.rows=2"],
    "explore walk": ["what=walk", "what.steps=1", "what.cells=2"],
    "explore mixing": ["what=mixing", "what.rows=2", "what.columns=2"],
    "explore sefa": ["what=sefa", "what.k=1", "what.rows=1"],
    "explore attributes": ["what=attributes", "what.samples=100", "metrics=digits"],
    "explore project": ["what=project", "what.images=photos", "what.steps=1"],
    "interpolate": [],
    "compare": [],
    "export": ["format=safetensors"],
}
"""The words of each verb, beside those that name the run; a second word tells two uses of a verb apart."""

OF_KINDS = {"waves": "drums", "volumes": "volumes"}
"""The scores of models that make no images."""


def main() -> int:
    """Print the table; return 1 if something was neither done nor refused in one line."""
    import support
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=support.MODELS)
    parser.add_argument("--verbs", nargs="+", default=list(VERBS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| model | {' | '.join(options.verbs)} |\n|---|{'---|' * len(options.verbs)}", flush=True)
    told: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GAN_EXPERIMENTS_CACHE"] = f"{folder}/cache"
        for model in options.models:
            variant = support.Variant.trained(Path(folder) / model / "run", model)
            support.write_images(variant.folder.parent / "photos", 2, size=32)
            row = []
            for name in options.verbs:
                verb = name.partition(" ")[0]
                runs = {"interpolate": ["a=run", "b=run"], "compare": ["run"]}.get(verb, ["run=run", "device=cpu"])
                runs = [word for word in runs if not (verb == "export" and word.startswith("device"))]
                scores = OF_KINDS.get(variant.model.kind.name, "digits")
                words = [word.replace("metrics=digits", f"metrics={scores}") for word in VERBS[name]]
                done = support.run(*runs, *words, verb=verb, folder=variant.folder.parent)
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                right = done.returncode == 0 or (done.returncode == 2 and len(lines) == 1)
                row.append("done" if done.returncode == 0 else "refused" if right else "NEITHER")
                if done.returncode:
                    said = lines[-1] if lines else f"status {done.returncode}"
                    told.setdefault(said if right else f"FAULT {said}", []).append(f"{model} {name}")
            print(f"| `{model}` | {' | '.join(row)} |", flush=True)
    print()
    for said, where in sorted(told.items()):
        print(f"- {', '.join(where)}: {said}")
    return int(any(said.startswith("FAULT") for said in told))


if __name__ == "__main__":
    sys.exit(main())
