"""Public data sets, downloaded once if they are missing."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from filelock import FileLock

from gan_experiments.contracts import ConfigError

log = logging.getLogger(__name__)

_PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
_CYCLEGAN = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"
_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
PUBLIC = {
    **{name: f"{_PIX2PIX}/{name}.tar.gz" for name in ("facades", "maps", "night2day", "edges2shoes", "edges2handbags")},
    **{
        name: f"{_CYCLEGAN}/{name}.zip"
        for name in ("horse2zebra", "apple2orange", "summer2winter_yosemite", "monet2photo", "vangogh2photo")
    },
    **{name: f"{_DIV2K}/{name}.zip" for name in ("DIV2K_train_HR", "DIV2K_valid_HR")},
}
"""Archives of public data sets, by the name of the one folder in each: `data.root=data/facades` asks for facades."""


def fetch_public(root: str | Path | Sequence[str]) -> None:
    """Download the public data set that `root` is named after, if PUBLIC has it and `root` does not exist."""
    if not isinstance(root, (str, Path)):  # several
        return
    root = Path(root).expanduser()
    url = PUBLIC.get(root.name)
    if url is None or root.exists():
        return
    from torchvision.datasets.utils import download_and_extract_archive

    fetch = partial(download_and_extract_archive, url, str(root.parent), remove_finished=True)
    download(root.parent, fetch, f"data.root={root} does not exist", f"{url} and unpack it in {root.parent}")


class NotDownloadedError(ConfigError):
    """The data are missing and could be downloaded, but inside `without_downloads` nothing is."""


_DOWNLOADS = ContextVar("_DOWNLOADS", default=True)


@contextmanager
def without_downloads() -> Iterator[None]:
    """Raise NotDownloadedError in place of any download."""
    before = _DOWNLOADS.set(False)
    try:
        yield
    finally:
        _DOWNLOADS.reset(before)


def may_download() -> bool:
    """Return False inside `without_downloads`."""
    return _DOWNLOADS.get()


def download(root: Path, fetch: Callable[[], object], missing: str, what: str) -> None:
    """Call torchvision's `fetch`, in one process at a time; without a network, raise ConfigError soon, in one line.

    `missing` says what is missing, and `what` what to fetch by hand; they are the parts of that line.
    """
    if not _DOWNLOADS.get():
        raise NotDownloadedError(f"{missing}: it is downloaded when the run begins")
    before = {root, *root.rglob("*")} if root.exists() else set()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"), _impatient():
            log.info("%s: downloading", missing)
            fetch()
    except (OSError, RuntimeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(":")
        with suppress(OSError):  # a file where the folder should be
            (root / ".download.lock").unlink(missing_ok=True)
        for folder in sorted({root, *root.rglob("*")} - before, reverse=True):  # leave no empty folders behind
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise ConfigError(
            f"{missing} and cannot be downloaded ({why}): fetch {what}, or type data.root=<the folder that holds it>"
        ) from None


@contextmanager
def _impatient(seconds: float = 10) -> Iterator[None]:
    """Set a timeout for connections, as torchvision sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
