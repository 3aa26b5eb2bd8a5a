"""Count this package's own functions and files between the command and the first optimizer step.

    python benchmarks/trips.py

prints for each model how many different functions are called, in how many files, from `run` until the first step of an
optimizer on the digits: what a newcomer may have to read who follows a training from its command.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from PIL import Image

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "gan_experiments"
MODELS = ("dcgan", "wgan_gp", "cyclegan", "stylegan2")
COMMON = ("logger=none", "metrics=none", "images=8", "data.batch_size=4", "trainer=cpu")


class _Stepped(BaseException):
    pass


def count(words: list[str]) -> tuple[int, int]:
    """Return the functions and files of the package that `run` enters before its first optimizer step."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from gan_experiments.launch import entry

    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            seen.add(frame.f_code)

    def step(*_: Any, **__: Any) -> None:
        raise _Stepped

    handle = register_optimizer_step_pre_hook(step)
    sys.argv = ["run.py", *words]
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        entry.main()
    except (_Stepped, SystemExit):
        pass
    finally:
        sys.setprofile(None)
        handle.remove()
    functions = {c for c in seen if not c.co_name.startswith("<") and c.co_flags & inspect.CO_NEWLOCALS}  # no class
    return len(functions), len({c.co_filename for c in functions})


def unpaired(model: str) -> list[str]:
    """Return the words for data of two domains, made in this folder, where a model needs them."""
    if model != "cyclegan":
        return []
    for name in ("a", "b"):
        Path("photos", name).mkdir(parents=True)
        for index in range(4):
            Image.effect_noise((64, 64), 50).convert("RGB").save(Path("photos", name, f"{index}.png"))
    return ["data=unpaired", "data.root_a=photos/a", "data.root_b=photos/b", "data.resolution=64"]


def main() -> None:
    """Count in a process for each model, so that none finds what an earlier one has made."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--models", nargs="*", default=MODELS)
    for model in arguments.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if not child:
                os.chdir(folder)
                print(
                    f"{model:10}  %d functions in %d files" % count([f"model={model}", *COMMON, *unpaired(model)]),
                    flush=True,
                )
                os._exit(0)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
