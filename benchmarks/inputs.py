"""What comes of each kind of input that people bring, made small, with any checkout.

    python benchmarks/inputs.py                      # this checkout
    python benchmarks/inputs.py --code ../before     # another, of an earlier version
    python benchmarks/inputs.py --only DICOM --keep sheets

Each input is checked (check=true) and trained on for two batches, in processes of its own, first with the words of
somebody who has not read anything and then with those that are meant for it. `docs/data.md` holds the table. --keep
copies what the network is shown, `samples/real.png`, of each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
for _name, _value in (("OMP_NUM_THREADS", "1"), ("WANDB_MODE", "offline")):
    os.environ[_name] = _value


def come_of(words: list[str], of: Any, keep: Path | None = None) -> str:
    """Check and train as somebody types it: trained, refused, a traceback, or trained on something else."""
    import inputs
    import support

    faults = Path(tempfile.mkstemp()[1])

    def look(cfg: Any) -> None:
        with contextlib.suppress(Exception):  # what cannot be opened, the verb says
            faults.write_text("; ".join(inputs.inspect(of, cfg)))

    with tempfile.TemporaryDirectory() as folder:
        for more, change in ((["check=true"], look), (["hydra.run.dir=run"], None)):
            done = support.run(*words, *more, folder=Path(folder), change=change)
            said = f"{done.stdout}\n{done.stderr}".strip()
            last = said.splitlines()[-1] if said else ""
            if "Traceback (most recent call last)" in said or done.returncode not in (0, 2):
                return f"TRACEBACK ({done.returncode}): {last}"
            if done.returncode == 2:
                return f"refused: {done.stderr.strip()}" if "\n" not in done.stderr.strip() else f"LINES: {last}"
        if keep is not None and (sheet := Path(folder, "run", "samples", "real.png")).is_file():
            shutil.copyfile(sheet, keep)
    wrong = faults.read_text()
    faults.unlink()
    return f"TRAINED, BUT {wrong}" if wrong else "trained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, default=HERE, help="a checkout, whose src/ and tests/support.py are used")
    parser.add_argument("--only", default="", help="part of the names")
    parser.add_argument("--meant", action="store_true", help="only with the words that are meant for it")
    parser.add_argument("--keep", type=Path, help="a folder for the sheets of real images")
    given = parser.parse_args()
    sys.path[:0] = [str(given.code.resolve() / "src"), str(HERE / "tests")]
    at = importlib.util.spec_from_file_location("support", given.code.resolve() / "tests" / "support.py")
    assert at is not None and at.loader is not None, "a checkout has it"  # noqa: PT018
    sys.modules["support"] = support = importlib.util.module_from_spec(at)
    at.loader.exec_module(support)
    from inputs import INPUTS

    import gan_experiments

    print(f"of {Path(gan_experiments.__file__).parents[2]}", flush=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GAN_EXPERIMENTS_CACHE"] = f"{scratch}/cache"
        for number, (name, of) in enumerate(INPUTS.items()):
            if given.only not in name or (of.needs and not importlib.util.find_spec(of.needs)):
                continue
            words = of.words(folder := Path(scratch, str(number)))
            if given.keep is not None:
                given.keep.mkdir(parents=True, exist_ok=True)
            print(f"\n{name}", flush=True)
            plain = of.plain_words(folder)
            if of.plain is not None and plain != words and not given.meant:
                print(f"  plain  {come_of(plain, of)}", flush=True)
            sheet = given.keep and given.keep / f"{number:02}.png"
            came = come_of(words, of, sheet)
            right = of.refused == "" if came == "trained" else bool(of.refused) and came.startswith("refused")
            print(f"  typed  {'' if right else '!! '}{came}", flush=True)


if __name__ == "__main__":
    main()
