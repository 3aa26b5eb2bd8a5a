"""The precision and the memory layout that train a model fastest on this machine, for the value "auto" of `trainer`.

No property of a processor or a network tells which they are: bfloat16 doubles the speed of one processor and halves
that of the next, and channels last speeds up most convolutions and slows instance norm down. So the model's own steps
are timed, on a few images of noise. The answer is kept per machine, torch version and model.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from torch import nn

import gan_experiments
from gan_experiments import files, processes
from gan_experiments.assembly import build
from gan_experiments.assembly.stopwatch import cycle_of, train_on_noise
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.contracts import Batch
from gan_experiments.data.cache import cache_root
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.layers.layout import lay_out
from gan_experiments.runs import resume

AUTO = "auto"
MEASURED = ("precision", "channels_last")
ON_CUDA = ("tf32", "cudnn_benchmark")
"""Keys of `trainer` that are true on an NVIDIA GPU, and false elsewhere."""
ENOUGH = 100  # steps: a shorter run is over before the measurement would pay
IMAGES = 16  # a step of the measurement
REPEATS, SECONDS = 2, 0.3  # timed steps of a setting in each round; no further one begins after so many seconds
PATIENCE = 3  # a step that takes so many times SECONDS is timed once
ROUNDS = 2  # all settings by turns, because what else runs on a machine slows each step differently
GAIN = {"precision": 0.9, "channels_last": 0.97}
"""The largest share of the plain time at which another precision or layout is taken: noise alone shall not decide."""


def settled(cfg: DictConfig) -> DictConfig:
    """Replace "auto" in a config's `trainer`; say in `trainer.chosen` why precision and layout are what they are.

    A run that goes on keeps what its checkpoint has, so that its training is the same on another machine. Short runs
    get float32 and torch's own layout. Rank 0 decides for all ranks. A config without "auto" is returned as it is.
    """
    left = [key for key in build.PLAIN if cfg.trainer[key] == AUTO]
    if not left:
        return cfg
    cfg = copy.deepcopy(cfg)
    OmegaConf.set_readonly(cfg, False)
    before = resume.load(resume.find(cfg.ckpt))["gan_experiments"]["config"]["trainer"] if cfg.ckpt else None
    for key in (key for key in left if key in ON_CUDA):
        cfg.trainer[key] = before.get(key, False) if before else on_cuda(cfg.trainer.accelerator)
    if measured := [key for key in left if key in MEASURED]:
        found, why = (before, before.get("chosen") or "as the run began") if before else _choice(cfg, measured)
        for key in measured:
            cfg.trainer[key] = found[key]
        OmegaConf.update(cfg, "trainer.chosen", why, force_add=True)
    return cfg


def on_cuda(accelerator: str) -> bool:
    """Return True if an accelerator of that name is an NVIDIA GPU on this machine."""
    return accelerator in (AUTO, "gpu", "cuda") and torch.cuda.is_available()


def _choice(cfg: DictConfig, left: list[str]) -> tuple[dict[str, Any], str]:
    if cfg.images < ENOUGH * cfg.data.batch_size:
        return build.PLAIN, f"not measured for less than {ENOUGH} steps"
    answer = json.loads(processes.agreed("fastest", lambda: json.dumps(_remembered(cfg, left))))
    return answer["found"], answer["why"]


# -------------------------------------------------------------------- the measurement


@dataclass(frozen=True)
class Setting:
    """A precision and a layout, and the milliseconds of a step with them."""

    precision: str
    channels_last: bool
    ms: float

    @property
    def name(self) -> str:
        """Precision and layout in words."""
        return f"{self.precision} {'channels last' if self.channels_last else 'contiguous'}"

    def __str__(self) -> str:
        return f"{self.name} {self.ms:.3g} ms"


def _remembered(cfg: DictConfig, left: list[str]) -> dict[str, Any]:
    """Return the answer of this machine for this model, measured now or kept from an earlier run."""
    asked = {"machine": machine(), "question": _question(cfg, left)}
    name = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:24]
    path = cache_root(None) / "fastest" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _answer(json.loads(path.read_text()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: Any = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # a read-only disk
        return _measured(cfg, left)
    with lock:  # jobs of a sweep that begin together choose the same
        with suppress(OSError, ValueError, KeyError, TypeError):
            return _answer(json.loads(path.read_text()))
        answer = _measured(cfg, left)
        with suppress(OSError):
            files.write_text(path, json.dumps({**answer, **asked}, indent=1, default=str))
        return answer


def _answer(kept: dict[str, Any]) -> dict[str, Any]:
    found, why = kept["found"], kept["why"]
    if found["precision"] not in build.PRECISIONS or not isinstance(found["channels_last"], bool):
        raise ValueError
    return {"found": {key: found[key] for key in MEASURED}, "why": str(why)}


APART = ("schedules", "ema", "optimizers", "pretrained", "seed", "limit", "workers", "batch_size")
"""Keys of `model` and `data` that change no step's time, or little."""


def _question(cfg: DictConfig, left: list[str]) -> dict[str, Any]:
    """Return what the answer depends on beside the machine: no rates and weights, so that the jobs of a sweep agree."""
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    sizes = {key: value for key, value in whole["data"].items() if isinstance(value, int) and key not in APART}
    given = {key: whole["trainer"][key] for key in ("accelerator", *MEASURED)}
    return {"model": _structure(whole["model"]), "data": sizes, "trainer": given, "left": left, "images": _rows(cfg)}


def _structure(value: Any) -> Any:
    """Return a config in plain types without its fractional numbers and without what stands APART."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in APART and not isinstance(item, float)}
        return {key: _structure(item) for key, item in kept.items()}
    return [_structure(item) for item in value] if isinstance(value, list) else value


@functools.cache
def machine() -> dict[str, Any]:
    """Return what tells this machine from others: processor with its abilities, GPU, versions."""
    cpu: Any = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        cpu = [told.get(key) for key in ("model name", "cpu family", "model", "flags")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "gpu": gpu,
        "torch": torch.__version__,
        "gan_experiments": gan_experiments.__version__,
    }


def _measured(cfg: DictConfig, left: list[str]) -> dict[str, Any]:
    """Time the settings that are left open and return the fastest, with the reason in words."""
    build.quieten()
    with processes.said("asking the machine for the fastest precision and layout"):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # threads that wait for each other on a busy machine would be timed too
        try:
            with torch.random.fork_rng(devices=[]):
                times, remark = _times(cfg, left)
        finally:
            torch.set_num_threads(threads)
    best = times[0]
    for precision in dict.fromkeys(setting.precision for setting in times):
        of = [setting for setting in times if setting.precision == precision]
        fastest = of[0]
        for other in of[1:]:
            if other.ms <= GAIN["channels_last"] * fastest.ms:
                fastest = other
        if precision == best.precision or fastest.ms <= GAIN["precision"] * best.ms:
            best = fastest
    why = f"measured here: {', '.join(map(str, times))} for {_rows(cfg)} images{remark}"
    if not times[0].ms:
        why = f"nothing to choose for networks like these{remark}"
    return {"found": {"precision": best.precision, "channels_last": best.channels_last}, "why": why}


def _times(cfg: DictConfig, left: list[str]) -> tuple[list[Setting], str]:
    cfg = _alone(cfg)
    model = build.build_model(_with(cfg, build.PLAIN["precision"], False))
    precisions, layouts, remark = _candidates(cfg, left, model)
    if len(precisions) * len(layouts) == 1:
        return [Setting(precisions[0], layouts[0], 0.0)], remark
    times: dict[tuple[str, bool], float] = {}
    failed: set[tuple[str, bool]] = set()
    for count in range(ROUNDS):
        for precision, layout in itertools.product(precisions, layouts):
            clock = _Clock(cycle_of(model), warm=count > 0)
            lay_out(model, bool(layout))
            if (precision, layout) in failed:
                continue
            try:
                train_on_noise(_with(cfg, precision, layout), model, clock)
            except Exception as error:  # a network of the user's own may not take it, as `view` does not channels last
                remark += f"; {Setting(precision, layout, 0.0).name} fails ({' '.join(str(error).split())[:80]})"
                if not times:  # the training itself will say why
                    return [Setting(precision, layout, 0.0)], remark
                failed.add((precision, layout))
            else:
                times[precision, layout] = min(clock.ms, times.get((precision, layout), clock.ms))
        if min(times.values()) > 1000 * SECONDS * PATIENCE:
            break
    return [Setting(*setting, ms) for setting, ms in times.items() if setting not in failed], remark


def _candidates(cfg: DictConfig, left: list[str], model: nn.Module) -> tuple[list[str], list[bool], str]:
    """Return the precisions and layouts to time, and in words why a precision is left out."""
    precisions, remark = [build.PLAIN["precision"]], ""
    if "precision" not in left:
        precisions = [cfg.trainer.precision]
    elif any(isinstance(layer, nn.modules.conv._ConvNd) for layer in model.modules()):
        if computes_bfloat16(cfg.trainer.accelerator):
            precisions.append("bf16-mixed")
        else:
            remark = "; bf16-mixed is slower on this processor"
    layouts = [False, True] if "channels_last" in left else [cfg.trainer.channels_last]
    return precisions, layouts if any(p.ndim == 4 for p in model.parameters()) else layouts[:1], remark


def _with(cfg: DictConfig, precision: str, channels_last: bool) -> DictConfig:
    cfg = copy.deepcopy(cfg)
    cfg.trainer.precision, cfg.trainer.channels_last = precision, channels_last
    return cfg


def _rows(cfg: DictConfig) -> int:
    """Return the number of images of a measured step; some models need two in each part of a batch."""
    return int(min(cfg.data.batch_size, max(IMAGES, 2 * cfg.trainer.accumulate)))


def _alone(cfg: DictConfig) -> DictConfig:
    """Return the config of one process that trains on a few images."""
    cfg = copy.deepcopy(cfg)
    accumulate = cfg.trainer.accumulate
    cfg.data.batch_size = _rows(cfg) // accumulate * accumulate
    cfg.trainer.devices, cfg.trainer.num_nodes, cfg.trainer.strategy = 1, 1, None
    return cfg


def computes_bfloat16(accelerator: str) -> bool:
    """Return True if this machine computes a convolution in bfloat16 faster than in float32.

    A processor without instructions for it can take twenty times as long, so a small convolution is asked first.
    """
    if on_cuda(accelerator):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "mps" or (accelerator == AUTO and torch.backends.mps.is_available()):
        return False
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight, x = (torch.ones(size, dtype=dtype, requires_grad=True) for size in ((64, 64, 3, 3), (8, 64, 16, 16)))
        spent = []
        for _ in range(3):
            start = time.process_time()
            nn.functional.conv2d(x, weight, padding=1).sum().backward()
            spent.append(time.process_time() - start)
        times[dtype] = min(spent)
    return times[torch.bfloat16] < times[torch.float32]


class _Clock(RunCallback):
    """A callback that times batches, without a first one unless it takes long; stops after REPEATS, or SECONDS.

    Every phase has its step in each of them: `cycle` is the number of batches after which the phases repeat. If torch
    is `warm`, because it has done the same steps before, the first batch counts too.
    """

    def __init__(self, cycle: int, warm: bool = False) -> None:
        self.cycle, self.first = cycle, 0 if warm else 1
        self.times: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, batch: Batch, *_: Any) -> None:
        module.batches = self.cycle - 1
        self._start = _now(module.device)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        self.times.append(_now(module.device) - self._start)
        done = self.times[self.first :]
        trainer.should_stop = len(done) == REPEATS or sum(done or self.times) > SECONDS * (1 if done else PATIENCE)

    @property
    def ms(self) -> float:
        """The milliseconds of the fastest batch, without the first one if another was timed."""
        return 1000 * min(self.times[self.first :] or self.times)


def _now(device: torch.device) -> float:
    """Return a time in seconds, once the device has done its work.

    On a CPU it is the time of this process, so that what else runs on the machine does not count.
    """
    if device.type == "cpu":
        return time.process_time()
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
    return time.perf_counter()
