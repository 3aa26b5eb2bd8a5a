"""Carry out the steps of the Dockerfile without Docker: `sudo python benchmarks/docker_steps.py --target serve`.

Docker is not on every machine. This reads the Dockerfile and does what it says, instruction by instruction, in a mount
namespace of its own: the folders that an image would have lie in `--folder`, and nothing outside it is written. Then it
starts the image's command as its user, with everything read-only but the volumes and /tmp, and waits for the health
check. It needs Linux and root. Options of pip, such as a local index, are taken from variables PIP_....
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKERFILE, IGNORED = REPOSITORY / "Dockerfile", REPOSITORY / ".dockerignore"
PLACES = ("/src", "/opt/venv", "/runs", "/cache", "/tmp", "/etc")
"""What an image has of its own here. The rest, as the shared libraries, is the machine's."""
START = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
START |= {"LD_LIBRARY_PATH": "/usr/local/lib"}  # of this Python, which is built to find it where it was installed
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True)
class Instruction:
    """One of the Dockerfile: its name, the rest of its lines, and the number of the first."""

    name: str
    rest: str
    line: int

    @property
    def words(self) -> list[str]:
        """The rest as words: a JSON list, or as a shell splits it."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


@dataclass
class Stage:
    """A stage: its name, the stage or image that it begins with, and its instructions."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile, with lines joined that end in a backslash."""
    started, number = "", 0
    for index, line in enumerate(text.splitlines(), 1):
        if not started and (not line.strip() or line.startswith("#")):
            continue
        number = number if started else index
        started += line.removesuffix("\\").strip() + " "
        if not line.endswith("\\"):
            name, _, rest = started.strip().partition(" ")
            yield Instruction(name.upper(), rest.strip(), number)
            started = ""


def stages(text: str) -> dict[str, Stage]:
    """Return the stages by name; the arguments before the first are in none."""
    found: dict[str, Stage] = {}
    for one in instructions(text):
        if one.name == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", one.rest).groups()  # type: ignore[union-attr]
            found[name] = Stage(name, base)
        elif found:
            [*found.values()][-1].instructions.append(one)
    return found


def chain(found: Mapping[str, Stage], target: str) -> list[Stage]:
    """Return a stage after those that it begins with, the first one first."""
    stage = found[target]
    return [*(chain(found, stage.base) if stage.base in found else []), stage]


def last(found: Mapping[str, Stage], target: str, name: str) -> Instruction | None:
    """Return the instruction of that name that holds in a stage."""
    return next((i for stage in chain(found, target)[::-1] for i in stage.instructions[::-1] if i.name == name), None)


def environment(found: Mapping[str, Stage], target: str) -> dict[str, str]:
    """Return what ENV sets in a stage."""
    told = [i for stage in chain(found, target) for i in stage.instructions if i.name == "ENV"]
    return dict(pair.split("=", 1) for one in told for pair in one.words)


def copied(path: Path, patterns: list[str]) -> bool:
    """Return True if .dockerignore leaves a path of the repository in; the last pattern that fits it decides."""
    left_in = True
    parts = [str(path), *(str(parent) for parent in path.parents if parent.name)]
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        fits = [bare, bare.removeprefix("**/")] if bare.startswith("**/") else [bare]
        names = [*parts, *path.parts] if bare.startswith("**/") else parts
        if any(fnmatch.fnmatchcase(name, one) for name in names for one in fits):
            left_in = pattern.startswith("!")
    return left_in


def context(folder: Path) -> None:
    """Copy what Docker would send: the files under version control that .dockerignore leaves in."""
    patterns = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]
    listing = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(listing, cwd=REPOSITORY, text=True).splitlines():
        if copied(Path(name), patterns) and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)


class Builder:
    """Carries out stages; each has a folder with its PLACES, and begins with a copy of that of its base."""

    def __init__(self, folder: Path, arguments: Mapping[str, str]) -> None:
        self.folder, self.arguments, self.done = folder, arguments, set[str]()
        self.found = stages(DOCKERFILE.read_text())
        context(folder / "context")

    def build(self, target: str) -> None:
        """Carry out a stage, after those that it needs."""
        stage = self.found[target]
        if target in self.done:
            return
        if stage.base in self.found:
            self.build(stage.base)
            for place in PLACES:
                self._copy(self.folder / stage.base / place[1:], self.folder / target / place[1:])
        for place in PLACES:
            (self.folder / target / place[1:]).mkdir(parents=True, exist_ok=True)
        (self.folder / target / "tmp").chmod(0o1777)
        here, given = "/", dict[str, str]()
        for one in stage.instructions:
            print(f"{target}, line {one.line}: {one.name} {one.rest[:100]}", flush=True)
            if one.name == "ARG":
                key, _, usual = one.rest.partition("=")
                given[key] = self.arguments.get(key, usual)
            elif one.name == "WORKDIR":
                here = one.rest
                self._inside(target, here).mkdir(parents=True, exist_ok=True)
            elif one.name == "COPY":
                self._copied(target, here, one)
            elif one.name == "RUN":
                began = time.monotonic()
                values = {**START, **environment(self.found, target), **given}
                self.run(target, ["/bin/sh", "-c", f"cd {here} && {one.rest}"], values)
                print(f"    {time.monotonic() - began:.0f} s", flush=True)
        self.done.add(target)

    def _copied(self, target: str, here: str, one: Instruction) -> None:
        words = one.words
        if words[0].startswith("--from="):
            source = words[0].partition("=")[2]
            self.build(source)
            self._copy(self._inside(source, words[1]), self._inside(target, words[2]))
            return
        *sources, to = words
        place = self._inside(target, os.path.join(here, to))
        for name in sources:
            path = self.folder / "context" / name
            if path.is_dir():
                self._copy(path, place)
            else:
                place = place if not to.endswith(("/", ".")) else place / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
                place = self._inside(target, os.path.join(here, to))

    def _inside(self, target: str, path: str) -> Path:
        return self.folder / target / os.path.normpath(path).lstrip("/")

    @staticmethod
    def _copy(source: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--no-target-directory", source, to], check=True)

    def script(self, target: str, read_only: bool = False) -> str:
        """Return the shell's commands that make the machine look like an image of a stage."""
        root = self.folder / target
        lines = ["set -e", "mount --make-rprivate /", f"mount --bind {sys.base_prefix} /usr/local"]
        (self.folder / f"{target}.work").mkdir(exist_ok=True)
        below = f"lowerdir=/etc,upperdir={root}/etc,workdir={self.folder / f'{target}.work'}"
        lines += [f"mount -t overlay overlay -o {below} /etc"]
        lines += [f"mkdir -p {place}; mount --bind {root}{place} {place}" for place in PLACES if place != "/etc"]
        if read_only:
            writable = [*self.volumes(target), "/tmp"]
            lines += ["mount --bind / /mnt", "mount -o remount,bind,ro /"]
            lines += [f"mount -o remount,bind,ro {place}" for place in PLACES if place not in (*writable, "/etc")]
            for place in writable:
                lines += [f"mount --bind {root}{place} {place}", f"mount -o remount,bind,rw {place}"]
        return "\n".join(lines)

    def volumes(self, target: str) -> list[str]:
        """Return the folders that VOLUME names."""
        one = last(self.found, target, "VOLUME")
        return one.words if one else []

    def run(self, target: str, command: list[str], values: Mapping[str, str]) -> None:
        """Run a command as root in an image of a stage; raises CalledProcessError if it fails."""
        inside = f"{self.script(target)}\nexec {shlex.join(command)}"
        subprocess.run(["unshare", "--mount", "sh", "-c", inside], env=_with_pip(values), check=True)

    def start(self, target: str, words: list[str]) -> subprocess.Popen[bytes]:
        """Start an image of a stage as `docker run --read-only --tmpfs /tmp` does, with these words for CMD's."""
        entry, workdir = last(self.found, target, "ENTRYPOINT"), last(self.found, target, "WORKDIR")
        assert entry is not None
        assert workdir is not None
        user = self.user(target)
        drop = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
        ]
        command = f"cd {workdir.rest} && exec {shlex.join([*drop, *entry.words, *words])}"
        inside = f"{self.script(target, read_only=True)}\n{command}"
        values = {**START, "HOME": "/runs", **environment(self.found, target)}
        values |= {key: os.environ[key] for key in ("GAN_EXPERIMENTS_TOKEN", "WANDB_MODE") if key in os.environ}
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", inside], env=values)

    def user(self, target: str) -> int:
        """Return the number of the user that USER names."""
        one = last(self.found, target, "USER")
        assert one is not None
        known = (self.folder / target / "etc" / "passwd").read_text().splitlines()
        return int(next(line.split(":")[2] for line in known if line.startswith(f"{one.rest}:")))

    def healthy(self, target: str, seconds: float, process: subprocess.Popen[bytes]) -> float:
        """Return after how many seconds the health check of a stage passed; infinity if it did not."""
        one = last(self.found, target, "HEALTHCHECK")
        assert one is not None
        check = json.loads(one.rest.partition("CMD ")[2])
        began = time.monotonic()
        while time.monotonic() - began < seconds and process.poll() is None:
            values = {**START, **environment(self.found, target)}
            inside = f"{self.script(target)}\nexec {shlex.join(check)} 2>/dev/null"
            if subprocess.call(["unshare", "--mount", "sh", "-c", inside], env=values) == 0:
                return time.monotonic() - began
            time.sleep(1)
        return float("inf")


def _with_pip(values: Mapping[str, str]) -> dict[str, str]:
    return {**values, **{key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_"))}}


def size(folder: Path) -> str:
    """Return how much space a folder takes."""
    return subprocess.check_output(["du", "-sh", folder], text=True).split()[0]


TINY = "images=64 data.batch_size=8 data.limit=64 model.generator.width=4 model.discriminator.width=4 metrics=none"


def main() -> int:
    """Build the targets, train a little, draw, and start what serves. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/gan-experiments-docker"))
    parser.add_argument("--target", nargs="+", default=["train", "serve"])
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--again", action="store_true", help="start what an earlier call has built in --folder")
    given = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        print("docker_steps: needs Linux, root, unshare and setpriv; nothing was done")
        return 0
    points = [Path(place) for place in PLACES if not Path(place).exists()]
    try:
        return steps(given)
    finally:
        for point in points:  # which were made to mount on
            point.rmdir()


def steps(given: argparse.Namespace) -> int:
    """Build the targets and start them. Return the exit status."""
    if not given.again:
        shutil.rmtree(given.folder, ignore_errors=True)
    builder = Builder(given.folder.resolve(), dict(one.split("=", 1) for one in given.build_arg))
    builder.done |= {name for name in builder.found if given.again and (builder.folder / name).is_dir()}
    failed = False
    os.environ["WANDB_MODE"] = "offline"
    for target in given.target:
        builder.build(target)
        print(f"{target}: /opt takes {size(given.folder / target / 'opt')}, user {builder.user(target)}", flush=True)
        for words in (TINY, "sample run=latest n=4"):
            status = builder.start(target, words.split()).wait()
            print(f"{target}: gan-experiments {words}: exit status {status}", flush=True)
            failed |= status != 0
        command = last(builder.found, target, "CMD")
        if command is None or last(builder.found, target, "HEALTHCHECK") is None:
            continue
        os.environ.setdefault("GAN_EXPERIMENTS_TOKEN", "steps-of-the-dockerfile")
        process = builder.start(target, command.words)
        seconds = builder.healthy(target, 180, process)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        print(f"{target}: {shlex.join(command.words)}: healthy after {seconds:.0f} s; SIGTERM: exit status {status}")
        failed |= not seconds < 180 or status not in (0, 143)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
