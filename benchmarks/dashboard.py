"""What `wandb sync` would send of a run that was stopped, resumed and evaluated, read by a stand-in for W&B's server.

    python benchmarks/dashboard.py

Trains a small DCGAN on the digits in two starts, evaluates it, and uploads the three folders that W&B has then left on
disk to a server of a hundred lines on this machine, which answers as W&B's does as far as the uploader asks. Prints a
Markdown table of what has arrived: the steps, the config, the summary, the media, the artifacts.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RUN = [sys.executable, str(REPOSITORY / "src" / "gan_experiments" / "run.py")]
WORDS = ["experiment=digits", "trainer=cpu", "callbacks.samples.every=320", "callbacks.scores.every=320"]
SMALL = ["metrics.num_fake=200", "metrics.num_real=300"]


class Server(ThreadingHTTPServer):
    """The one project of a server; `runs` holds what arrived of each run, `artifacts` what of each artifact's version,
    `views` the workspaces.

    `asked` holds the names of all requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self, name: str) -> dict[str, Any]:
        """What has arrived of a run."""
        empty = {"history": [], "summary": "{}", "config": "{}", "files": set(), "artifacts": [], "used": []}
        return self.runs.setdefault(name, empty)

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911
        """Answer a query of the uploader by its name."""
        self.asked.append(operation)
        owner = {"id": "E", "name": "me"}
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "V", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "RunResumeStatus":
            return {"model": {"id": "P", "name": "p", "entity": owner, "bucket": self._known(given["name"])}}
        if operation == "UpsertBucket":
            new = given["name"] not in self.runs
            run = self.run(given["name"])
            run["config"] = given.get("config") or run["config"]
            run["name"] = given.get("displayName") or run.get("name")
            run["job_type"] = given.get("jobType") or run.get("job_type")
            project = {"id": "P", "name": given["project"], "entity": owner}
            bucket = {"id": given["name"], "name": given["name"], "displayName": run["name"], "project": project}
            bucket |= {"historyLineCount": len(run["history"]), "config": run["config"]}
            return {"upsertBucket": {"bucket": bucket, "inserted": new}}
        if operation == "CreateRunFiles":
            self.run(given["run"])["files"] |= {*given["files"]}
            places = [{"name": name, "uploadUrl": f"{self.address}/file/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": places}}
        if operation == "CreateArtifact":
            told = given["input"]
            aliases = [alias["alias"] for alias in told.get("aliases") or []]
            if told.get("runName"):  # not of those that a run uses
                self.run(told["runName"])["artifacts"].append((told["artifactTypeName"], aliases))
            made = self._version(told)
            sequence = {"id": "S", "latestArtifact": {"id": made["id"], "versionIndex": made["version"]}}
            artifact = {"id": made["id"], "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if operation == "UseArtifact":
            used = given["input"]["artifactID"]
            self.run(given["input"]["runName"])["used"].append(used)
            return {"useArtifact": {"artifact": {"id": used}}}
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}
        if operation == "UpsertView2":
            self.views.append(given)
            return {"upsertView": {"view": {"id": "W", "name": given["name"]}, "inserted": True}}
        if operation == "ArtifactByID":
            return {"artifact": self._described(next(one for one in self.artifacts if one["id"] == given["id"]))}
        return {}

    def _version(self, told: dict[str, Any]) -> dict[str, Any]:
        """The version of an artifact: a new one unless its content is known, by its digest."""
        own = [one for one in self.artifacts if one["name"] == told["artifactCollectionName"]]
        known = [one for one in own if one["digest"] == told["digest"]]
        if not known:
            name, kind = told["artifactCollectionName"], told["artifactTypeName"]
            known = [{"id": f"{name}:v{len(own)}", "name": name, "type": kind, "version": len(own)}]
            self.artifacts.append(known[0] | {"digest": told["digest"]})
        return known[0]

    def _described(self, one: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "P", "internalId": "1", "name": "p", "entity": {"id": "E", "name": "me"}}
        sequence = {"__typename": "ArtifactSequence", "id": "S", "name": one["name"], "project": project}
        numbers = {"versionIndex": one["version"], "size": 1, "fileCount": 1, "digest": one["digest"]}
        empty = {"description": "", "metadata": "{}", "tags": [], "aliases": [], "historyStep": None}
        empty |= {"ttlDurationSeconds": -2, "ttlIsInherited": False, "commitHash": None, "updatedAt": None}
        empty |= {"createdAt": "2026-01-01T00:00:00Z", "currentManifest": None, "digestAlgorithm": "MANIFEST_MD5"}
        kind = {"artifactType": {"name": one["type"]}, "state": "COMMITTED", "__typename": "Artifact"}
        return {"id": one["id"], "artifactSequence": sequence, **numbers, **empty, **kind}

    def _known(self, name: str) -> dict[str, Any] | None:
        run = self.runs.get(name)
        if run is None:
            return None
        known = {key: run[key] for key in ("config",)} | {"summaryMetrics": run["summary"], "wandbConfig": '{"t": 1}'}
        counts = {"historyLineCount": len(run["history"]), "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": json.dumps(run["history"][-1:]), "eventsTail": "[]"}
        return {"id": name, "name": name, "displayName": run.get("name"), "tags": [], **known, **counts, **tails}


class Handler(BaseHTTPRequestHandler):
    """One request of the uploader."""

    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        """Answer a request; the uploader hangs up when it has done."""
        with suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if "graphql" in self.path:
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._reply({"data": self.server.answer(name[1] if name else "", asked.get("variables") or {})})
        elif "file_stream" in self.path:
            self._take(json.loads(body).get("files") or {})
            self._reply({"exitcode": None, "limits": {}})
        else:
            self._reply({})

    def _take(self, files: dict[str, Any]) -> None:
        run = self.server.run(self.path.split("/")[-2])
        for name, part in files.items():
            if "history" in name:
                run["history"][part["offset"] :] = part["content"]
            elif "summary" in name:
                run["summary"] = part["content"][-1]

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def train(folder: Path) -> None:
    """Train in two starts, and evaluate."""
    run = f"hydra.run.dir={folder}"
    verb = [sys.executable, "-m", "gan_experiments", "evaluate"]
    for command in (
        [*RUN, *WORDS, *SMALL, "images=640", run],
        [*RUN, f"ckpt={folder}", "images=960", run],
        [*verb, f"run={folder}", "metrics=digits", *SMALL],
    ):
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def sync(folder: Path, server: Server) -> None:
    """Upload all that W&B has left on disk, as the printed command does."""
    starts = sorted(map(str, (folder / "wandb").glob("offline-run-*")))
    own = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": "0" * 40}
    wandb = str(Path(sys.executable).with_name("wandb"))
    subprocess.run([wandb, "sync", *starts], check=True, env={**os.environ, **own}, capture_output=True)


def table(name: str, run: dict[str, Any]) -> list[str]:
    """Rows of what has arrived of a run."""
    rows = [json.loads(line) for line in run["history"]]
    summary = {key: value for key, value in json.loads(run["summary"]).items() if not key.startswith("_")}
    parts = [(key, value) for row in rows for key, value in row.items() if isinstance(value, dict)]
    media = {key: value["_type"] for key, value in parts if "_type" in value}
    kinds = {kind: sorted(key for key, of in media.items() if of == kind) for kind in sorted({*media.values()})}
    config = sorted(key for key in json.loads(run["config"]) if not key.startswith("_"))
    artifacts = [f"{kind} ({', '.join(aliases)})" for kind, aliases in run["artifacts"]]
    told = {
        "run": f"{name}, {run['name']}",
        "steps": ", ".join(str(row["_step"]) for row in rows),
        "images": ", ".join(str(row.get("images")) for row in rows),
        "config": ", ".join(config),
        "summary": f"{len(summary)}: {', '.join(sorted(summary))}",
        **{kind: ", ".join(keys) for kind, keys in kinds.items()},
        "artifacts": "; ".join(artifacts),
        "used": ", ".join(run["used"]),
        "files": ", ".join(sorted(name for name in run["files"] if not name.startswith("media"))),
    }
    return ["| what | arrived |", "|---|---|", *(f"| {key} | {value} |" for key, value in told.items())]


def main() -> None:
    """Train, upload, print the table."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "run"
        train(folder)
        sync(folder, server)
    for name, run in server.runs.items():
        print("\n".join(table(name, run)))


if __name__ == "__main__":
    main()
