"""What arrives at W&B, by the stand-in for its server of `benchmarks/dashboard.py`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import OmegaConf

from gan_experiments.contracts import ConfigError
from gan_experiments.loggers import lineage, logged, workspace
from gan_experiments.loggers.wandb_run import SUMMARY, WandbRun

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = {"logger": {"wandb": {"project": "p", "group": "g", "mode": "online"}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    running = importlib.import_module("dashboard").Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", running.address)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb.teardown()  # what an earlier test of this process has let it read of the environment
    monkeypatch.setenv("WANDB_MODE", "online")
    yield running
    running.shutdown()
    sys.modules.pop("dashboard")


def test_online_a_sample_leads_back_to_the_checkpoint_and_the_data(server: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    OmegaConf.save(CONFIG, tmp_path / "config.yaml")
    logger = WandbRun(str(tmp_path), "p", group="g", mode="online", name="digits")
    logger.start({"images": 8})
    logger.log_data("Digits", "fingerprint")
    logger.finish()
    assert OmegaConf.load(tmp_path / "config.yaml") == CONFIG  # W&B has one of its own
    (trained,) = server.runs.values()
    assert trained["used"] == ["data-fingerprint:v0"]
    assert trained["artifacts"] == [("model", ["latest"])]
    lineage.record_use("sample", tmp_path, checkpoint)
    _, sampled = server.runs.values()
    assert sampled["job_type"] == "sample"
    checkpoints = [one["id"] for one in server.artifacts if one["type"] == "model"]
    assert sampled["used"] == checkpoints  # the same content is the same version


def test_offline_nothing_of_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-id").write_text("abc")
    OmegaConf.save(CONFIG, tmp_path / "config.yaml")
    told = logged.logged_as(tmp_path)
    assert told == {"project": "p", "group": "g", "id": "abc", "mode": "offline"}  # WANDB_MODE of the tests
    lineage.record_use("sample", tmp_path, tmp_path / "last.ckpt")
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == ["run-id"]


def test_the_summary_holds_the_best_value_of_all_starts(tmp_path: Path) -> None:
    for values in ((5.0, 7.0), (9.0, 8.0)):
        logger = WandbRun(str(tmp_path), "p", mode="offline", checkpoints="none")
        logger.start({})
        logger.log_passports({"fid": {}})
        for images, fid in enumerate(values):
            logger.log_metrics({"fid": fid}, images)
        logger.finish()
    assert json.loads((tmp_path / SUMMARY).read_text())["fid"] == {"min": 5.0, "last": 8.0}


def test_a_workspace_has_a_section_for_each_question(server: Any, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-id").write_text("abc")
    OmegaConf.save(CONFIG, tmp_path / "config.yaml")
    summary = {
        **{"samples": {"_type": "image-file"}, "is": {"max": 2.0, "last": 1.0}, "D(real)": 0.5},
        **{"generator/adversarial": 1.0, "generator/cycle": 2.0, "gradient_norm/generator": 1.0, "best/is": 2.0},
    }
    (tmp_path / SUMMARY).write_text(json.dumps(summary))
    assert workspace.save([str(tmp_path)]).startswith(f"{server.address}/me/p?nw=")
    (view,) = server.views
    section = json.loads(view["spec"])["section"]
    panels = {
        part["name"]: [panel["config"].get("metrics") or panel["config"]["mediaKeys"] for panel in part["panels"]]
        for part in section["panelBankConfig"]["sections"]
    }
    assert panels == {
        "Samples": [["samples"]],
        "Scores": [["is"]],
        "Losses": [["D(real)"], ["generator/adversarial", "generator/cycle"]],
        "Health": [["gradient_norm/generator"]],
    }
    (key,) = section["runSets"][0]["sort"]["keys"]
    assert key == {"key": {"section": "summary", "name": "best/is"}, "ascending": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "needs one run folder"), (["here"], "here: it has no finished run of W&B")],
)
def test_a_workspace_that_cannot_be_is_refused_in_one_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        workspace.save(words)


def test_a_run_imports_neither_pandas_nor_the_launcher(tmp_path: Path) -> None:
    """Each takes a second or more; in a process of its own, as other tests import pandas."""
    code = f"""
import subprocess
import sys
from pathlib import Path
from gan_experiments.loggers.wandb_run import WandbRun
logger = WandbRun({str(tmp_path)!r}, "p", mode="offline", checkpoints="none")
logger.start({{}})
logger.log_picture("samples", Path({str(REPOSITORY / "docs" / "digits.png")!r}), 1)
logger.finish()
print(sorted({{"pandas", "wandb.sdk.launch", "wandb.apis.public"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
