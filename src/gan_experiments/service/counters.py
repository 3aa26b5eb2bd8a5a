"""What the service has done so far, as Prometheus reads it."""

from __future__ import annotations

import bisect
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram of times."""
PREFIX = "gan_experiments_"


class Counters:
    """Requests by endpoint and status, with the time that each took, and values that are read when asked for."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[str, list[int]] = {}
        self.total: Counter[str] = Counter()

    def observe(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a request; status 0 is one that went away before it was answered."""
        self.requests[method, endpoint, status] += 1
        row = self.seconds.setdefault(endpoint, [0] * (len(SECONDS) + 1))
        row[bisect.bisect_left(SECONDS, seconds)] += 1
        self.total[endpoint] += seconds  # type: ignore[assignment]

    def text(self, models: Mapping[str, Mapping[str, float]], checkpoints: Mapping[str, str]) -> str:
        """Return everything in Prometheus' text format; `models` has values of each model, by name."""
        lines = [
            *_metric(
                "requests_total",
                "counter",
                "requests answered",
                (
                    ({"method": method, "endpoint": endpoint, "status": status}, number)
                    for (method, endpoint, status), number in sorted(self.requests.items())
                ),
            ),
            *self._histogram(),
            *_metric(
                "model_info",
                "gauge",
                "the models and the SHA-256 of their checkpoints",
                (({"model": name, "checkpoint": checkpoint}, 1) for name, checkpoint in checkpoints.items()),
            ),
        ]
        for key, (kind, about) in OF_A_MODEL.items():
            lines += _metric(key, kind, about, (({"model": name}, values[key]) for name, values in models.items()))
        if memory := resident():
            lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {memory}"]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterator[str]:
        name = f"{PREFIX}request_seconds"
        yield f"# HELP {name} time from the headers of a request to its answer"
        yield f"# TYPE {name} histogram"
        for endpoint, row in sorted(self.seconds.items()):
            label, number = f'endpoint="{_escaped(endpoint)}"', 0
            for bound, here in zip((*map(str, SECONDS), "+Inf"), row, strict=True):
                number += here
                yield f'{name}_bucket{{{label},le="{bound}"}} {number}'
            yield f"{name}_sum{{{label}}} {self.total[endpoint]:.6f}"
            yield f"{name}_count{{{label}}} {number}"


OF_A_MODEL = {
    "images_total": ("counter", "images computed"),
    "batches_total": ("counter", "batches in which they were computed"),
    "compute_seconds_total": ("counter", "time in which they were computed"),
    "waiting_images": ("gauge", "images in the queue"),
}
"""Of the values of each model: kind and meaning."""


def _metric(name: str, kind: str, about: str, rows: Iterable[tuple[Mapping[str, object], float]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {about}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in rows:
        inside = ",".join(f'{key}="{_escaped(str(label))}"' for key, label in labels.items())
        yield (
            f"{PREFIX}{name}{{{inside}}} {value:g}"
            if isinstance(value, float)
            else f"{PREFIX}{name}{{{inside}}} {value}"
        )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def resident() -> int:
    """Return the memory of this process in bytes; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
