"""The example that reaches out: HTTP, a database, a container where an engine is there, and a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import container_kit
import pytest
import sql_servers

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "lightflow run examples/shop/shop.yaml"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_shop(tmp_path: Path, database: str) -> None:
    assert COMMAND in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    if database == "sqlite":
        run(tmp_path)
        return
    with sql_servers.postgresql() as server:
        # The password is not in the address: it comes from the file that libpq reads.
        passwords = tmp_path / "passwords"
        passwords.write_text(f"127.0.0.1:{server.port}:*:postgres:{sql_servers.TOKEN}\n")
        passwords.chmod(0o600)
        address = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        for _ in range(2):  # the second run replaces the rows of the day
            run(tmp_path, "-p", f"warehouse={address}", PGPASSFILE=str(passwords))
        assert sql_servers.query(server, "SELECT count(*) FROM shop_orders") == [(4,)]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_the_shop_with_a_container(tmp_path: Path, engine: str) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with getattr(container_kit, engine)() as started:
        # Of two engines the first that answers is taken: podman where no docker engine does.
        variables = {"DOCKER_HOST": "unix:///absent.sock", **started.env}
        run(tmp_path, "-p", f"image={container_kit.SHELL_IMAGE}", **variables)
        assert started.labelled() == []
    command = [sys.executable, "-m", "lightflow", "status", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    states = {task["task"]: task["status"] for task in json.loads(done.stdout)["tasks"]}
    assert (states["rank_in_a_container"], states["rank"]) == ("SUCCESS", "SKIPPED")


def run(folder: Path, *arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", *COMMAND.split(), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder / "shop-out"
    assert (out / "ranking.csv").read_text().splitlines() == [
        "O'Neil; DROP TABLE shop_orders,101.00" if "PGPASSFILE" in variables else "O'Neil; DROP TABLE shop_orders,101",
        "Ada,19.50" if "PGPASSFILE" in variables else "Ada,19.5",
        "Grace,7.25",
        "Ada,0.75",
    ]
    assert json.loads((out / "messages").read_text()) == {"orders": 4, "amount": 128.5}
