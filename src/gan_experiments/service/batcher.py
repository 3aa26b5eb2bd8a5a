"""Micro-batches: what several requests ask of one model at the same moment is computed together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Full(Exception):
    """The queue is full; `seconds` is about how long until it is empty."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(eq=False)
class _Job:
    """Work for `rows` images. Jobs of the same kind may be computed together; one of kind None is computed alone."""

    rows: int
    kind: tuple[float | None, bool] | None
    item: Any
    future: asyncio.Future[Any]


class Batcher:
    """A bounded queue of jobs, and one worker that computes them batch by batch in a thread.

    A batch begins with the job that has waited longest. It takes in all others of its kind that fit, for `wait` seconds
    if there are too few. Jobs that nobody waits for any more are left out.

    Libraries round otherwise for batches of other sizes, so every batch is filled up to the same one. The images of a
    request then depend on its own noise alone, to the bit.

    Args:
        function: draws images [n, C, H, W] from z [n, ...], labels [n] or None, and the truncation.
        thread: where models compute.
        most: images of a batch, always so many.
        wait: seconds.
        queue: images that may wait.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor | None, float | None], Tensor],
        thread: Executor,
        most: int,
        wait: float,
        queue: int,
    ) -> None:
        self.function, self.thread, self.most, self.wait, self.queue = function, thread, most, wait, queue
        self.batches = self.images = 0
        self.seconds = 0.0  # in which these were computed
        self._jobs: deque[_Job] = deque()
        self._came = asyncio.Event()

    @property
    def waiting(self) -> int:
        """The number of images in the queue."""
        return sum(job.rows for job in self._jobs if not job.future.done())

    async def draw(self, z: Tensor, labels: Tensor | None, truncation: float | None) -> Tensor:
        """Return the images [n, C, H, W] of z [n, ...] and labels [n]. Raises Full."""
        starts = range(0, len(z), self.most)
        rows = [slice(start, start + self.most) for start in starts]
        items = [(z[part], None if labels is None else labels[part]) for part in rows]
        kind = truncation, labels is None
        return torch.cat(await self._done([(len(item[0]), kind, item) for item in items]))

    async def alone(self, work: Callable[[], Any]) -> Any:
        """Return what a function returns that is called in the model's thread. Raises Full."""
        return (await self._done([(1, None, work)]))[0]

    async def _done(self, asked: list[tuple[int, tuple[float | None, bool] | None, Any]]) -> list[Any]:
        waiting = self.waiting
        if waiting + sum(rows for rows, _, _ in asked) > self.queue:
            rate = self.seconds / max(self.images, 1)
            raise Full(min(60, max(1, math.ceil(rate * waiting))))
        jobs = [_Job(*job, asyncio.get_running_loop().create_future()) for job in asked]
        self._jobs += jobs
        self._came.set()
        return await asyncio.gather(*(job.future for job in jobs))

    async def work(self) -> None:
        """Compute batch after batch until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            jobs = await self._next()
            began = time.perf_counter()
            try:
                results = await loop.run_in_executor(self.thread, self._compute, jobs)
            except Exception as error:
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)
                continue
            for job, result in zip(jobs, results, strict=True):
                if not job.future.done():
                    job.future.set_result(result)
            self.batches += 1
            self.images += sum(job.rows for job in jobs)
            self.seconds += time.perf_counter() - began

    async def _next(self) -> list[_Job]:
        """Wait for jobs, and take a batch out of the queue."""
        deadline = math.inf
        while True:
            self._came.clear()
            self._jobs = deque(job for job in self._jobs if not job.future.done())
            if not self._jobs:
                deadline = math.inf
                await self._came.wait()
                continue
            batch, rest = self._split()
            now = time.monotonic()
            deadline = min(deadline, now + self.wait)
            if batch[0].kind is None or rest or sum(job.rows for job in batch) >= self.most or now >= deadline:
                self._jobs = rest
                return batch
            try:
                await asyncio.wait_for(self._came.wait(), deadline - now)
            except TimeoutError:
                continue

    def _split(self) -> tuple[list[_Job], deque[_Job]]:
        """Return the jobs of the next batch, and the others in their order."""
        batch: list[_Job] = []
        rest: deque[_Job] = deque()
        room = self.most
        for job in self._jobs:
            fits = not batch or (job.kind is not None and job.kind == batch[0].kind and job.rows <= room)
            (batch if fits else rest).append(job)
            room -= job.rows if fits else 0
        return batch, rest

    @torch.no_grad()
    def _compute(self, jobs: list[_Job]) -> list[Any]:
        if jobs[0].kind is None:
            return [jobs[0].item()]
        truncation, _ = jobs[0].kind
        z = self._filled([job.item[0] for job in jobs])
        labels = None if jobs[0].item[1] is None else self._filled([job.item[1] for job in jobs])
        rows = [job.rows for job in jobs]
        return list(self.function(z, labels, truncation)[: sum(rows)].split(rows))

    def _filled(self, parts: list[Tensor]) -> Tensor:
        """Join rows to a whole batch, in which the last one is repeated."""
        rows = torch.cat(parts)
        return torch.cat([rows, rows[-1:].expand(self.most - len(rows), *rows.shape[1:])])
