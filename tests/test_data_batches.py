"""The stream of batches: a pure function of (seed, number), whatever the ranks, workers and interruptions."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import BatchStream, StreamLoader, cut, to_float
from gan_experiments.data.cache import ImageArray


def numbered(number: int, labels: bool = True) -> ImageArray:
    """Images 1x2x2 whose every pixel is the image's number."""
    pixels = torch.arange(number, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    return ImageArray(pixels, torch.arange(number) if labels else None, "numbered")


def take(stream: BatchStream, number: int, workers: int = 0, start: int = 0) -> list[Batch]:
    return list(itertools.islice(StreamLoader(stream, lambda: start, workers), number))


def ids(batches: list[Batch]) -> list[int]:
    return torch.cat([batch["real"][:, 0, 0, 0] for batch in batches]).tolist()


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, two, strict=True)
    )


def test_every_image_once_an_epoch_and_batches_straddle() -> None:
    seen = ids(take(BatchStream(numbered(10), 4), 10))  # four epochs
    epochs = [seen[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert epochs[0] != list(range(10))


@pytest.mark.parametrize("number", [1, 3, 7])
def test_fewer_images_than_a_batch(number: int) -> None:
    seen = ids(take(BatchStream(numbered(number), 16), 21))
    assert len(seen) == 16 * 21
    assert all(sorted(seen[i : i + number]) == list(range(number)) for i in range(0, 16 * 21 - number, number))


def test_labels_stay_with_their_images() -> None:
    for batch in take(BatchStream(numbered(50), 8), 10):
        assert batch["label"].tolist() == batch["real"][:, 0, 0, 0].tolist()
        assert batch["label"].dtype == torch.int64
    assert take(BatchStream(numbered(5, labels=False), 8), 1)[0].keys() == {"real"}


def test_seeds_differ_and_repeat() -> None:
    draw = lambda seed: ids(take(BatchStream(numbered(50), 25, seed), 4))  # noqa: E731
    assert draw(3) == draw(3)
    assert len({tuple(draw(seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batches_of_one(world: int) -> None:
    options: dict[str, Any] = {"flip": True, "crop_margin": 5}
    whole = take(BatchStream(numbered(30), 8, 1, **options), 9)
    shares = [take(BatchStream(numbered(30), 8, 1, rank=rank, world=world, **options), 9) for rank in range(world)]
    for number, batch in enumerate(whole):
        for key, value in batch.items():
            assert torch.equal(torch.cat([share[number][key] for share in shares]), value)


def test_a_batch_that_ranks_cannot_share() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=10 cannot be shared by 4 processes.*data\.batch_size=8"):
        BatchStream(numbered(30), 10, world=4)
    with pytest.raises(ConfigError, match=r"type data\.batch_size=4"):
        BatchStream(numbered(30), 1, world=4)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 3, 8])
def test_going_on_equals_never_stopping(workers: int, start: int) -> None:
    stream = lambda: BatchStream(numbered(10), 4, 5, flip=True)  # noqa: E731
    assert equal(take(stream(), 12 - start, workers, start), take(stream(), 12)[start:])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    stream = lambda: BatchStream(numbered(10), 4, flip=True, crop_margin=3)  # noqa: E731
    assert equal(take(stream(), 11, workers), take(stream(), 11))


def test_a_far_batch_is_as_quick_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    permute = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *given, **options: drawn.append(1) or permute(*given, **options))
    BatchStream(numbered(100), 64).batch(10**9)
    assert len(drawn) <= 2


def test_another_iteration_goes_on_where_training_is() -> None:
    position = 0
    loader = StreamLoader(BatchStream(numbered(10), 4), lambda: position)
    first = list(itertools.islice(loader, 3))
    position = 3
    assert equal(first + list(itertools.islice(loader, 3)), take(BatchStream(numbered(10), 4), 6))


def test_neither_reads_nor_moves_the_global_generators() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = take(BatchStream(numbered(10), 4, flip=True), 1)
    BatchStream(numbered(10), 4, flip=True).batch(5)
    torch.manual_seed(1)
    assert equal(take(BatchStream(numbered(10), 4, flip=True), 1), one)
    torch.manual_seed(0)
    stream = BatchStream(numbered(10), 4, flip=True, crop_margin=2)
    stream.batch(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_can_be_sent_to_another_process() -> None:
    stream = BatchStream(numbered(10), 4, flip=True)
    assert equal([pickle.loads(pickle.dumps(stream)).batch(3)], [stream.batch(3)])


def test_flips_are_fair_and_differ_between_batches() -> None:
    masks = [batch["flip"] for batch in take(BatchStream(numbered(200), 100, flip=True), 40)]
    assert masks[0].dtype == torch.bool
    assert not torch.equal(masks[0], masks[1])
    assert abs(torch.cat(masks).float().mean() - 0.5) < 0.03  # 4,000 draws: four standard deviations


def test_crops_reach_every_place() -> None:
    corners = torch.cat([batch["crop"] for batch in take(BatchStream(numbered(9), 64, crop_margin=2), 10)])
    assert {tuple(corner) for corner in corners.tolist()} == set(itertools.product(range(3), range(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_to_float(dtype: torch.dtype, channels_last: bool) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8).repeat(1, 3, 1, 1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        images = to_float(values, channels_last=channels_last)
    finally:
        torch.set_default_dtype(before)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (images.double() - (values.double() / 127.5 - 1)).abs().max() < 1e-7
    assert (images.min().item(), images.max().item()) == (-1, 1)
    assert torch.equal(((images + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8), values)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_flips_mirror_the_rows_they_mark(channels: int, channels_last: bool) -> None:
    pixels = torch.randint(0, 256, (6, channels, 5, 7), dtype=torch.uint8)
    kept = pixels.clone()
    flip = torch.tensor([True, False, False, True, True, False])
    images = to_float(pixels, flip, channels_last)
    straight = to_float(pixels)
    for image, original, mirrored in zip(images, straight, flip, strict=True):
        assert torch.equal(image, original.flip(-1) if mirrored else original)
    assert torch.equal(pixels, kept)  # the data set's own pixels are left as they are


def test_cut_takes_each_image_at_its_corner() -> None:
    pixels = torch.randint(0, 256, (4, 3, 9, 8), dtype=torch.uint8)
    corners: Tensor = torch.tensor([[0, 0], [4, 3], [1, 2], [3, 0]])
    pieces = cut(pixels, corners, 5)
    for piece, image, (top, left) in zip(pieces, pixels, corners.tolist(), strict=True):
        assert torch.equal(piece, image[:, top : top + 5, left : left + 5])
