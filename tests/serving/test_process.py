"""The server as a process of its own: what it loads, how it dies, and what it remembers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_SERVE = """
import sys
from slatewise.serving import ServerSettings, serve
serve(sys.argv[1], sys.argv[2], port=0, settings=ServerSettings(), announce=lambda url: print(url, flush=True))
print("ended well", flush=True)
"""
_LIGHT = """
import json, sys
from fastapi.testclient import TestClient
from slatewise.serving.server import create_app
with TestClient(create_app(sys.argv[1], sys.argv[2])) as client:
    slate = client.post("/v1/recommend", json={"history": [{"item_id": "item-4"}], "explore": 0.5})
    assert slate.status_code == 200 and client.get("/").status_code == 200
heavy = ("torch", "transformers", "gymnasium", "stable_baselines3", "onnx", "matplotlib")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


@contextmanager
def running(bundle: Path, store: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server and a client of it; killed at the end if it still runs."""
    command = [sys.executable, "-c", _SERVE, str(bundle), str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), address + process.stdout.read()
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield process, client
        finally:
            process.kill()


def test_serving_loads_neither_torch_nor_transformers(bundle_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _LIGHT, str(bundle_folder), str(tmp_path / "events.db")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_what_was_acknowledged_survives_a_kill(bundle_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "events.db"
    with running(bundle_folder, store) as (process, client):
        slate = client.post("/v1/recommend", json={"shopper_id": "ann"}).json()
        item = slate["items"][0]["item_id"]
        event = {"item_id": item, "event": "click", "slate_id": slate["slate_id"]}
        for number in range(20):
            event["event_id"] = str(number)
            assert client.post("/v1/events", json={"events": [event]}).status_code == 202
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    with running(bundle_folder, store) as (process, client):
        ready = client.get("/readyz").json()
        assert (ready["slates"], ready["events"]) == (1, 20)
        again = client.post("/v1/events", json={"events": [event]}).json()
        assert (again["accepted"], again["duplicates"]) == (0, 1)
        assert client.post("/v1/recommend", json={"shopper_id": "ann"}).json()["history"]["tokens"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "ended well\n"
    assert not store.with_name("events.db-wal").exists()  # closed, not left behind


def test_an_address_that_is_taken_is_named(bundle_folder: Path, tmp_path: Path) -> None:
    with running(bundle_folder, tmp_path / "one.db") as (_, client):
        port = client.base_url.port
        words = (
            "import sys; from slatewise.serving import serve; serve(sys.argv[1], sys.argv[2], port=int(sys.argv[3]))"
        )
        command = [sys.executable, "-c", words, str(bundle_folder), str(tmp_path / "two.db"), str(port)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in answer.stderr.splitlines()[-1]
