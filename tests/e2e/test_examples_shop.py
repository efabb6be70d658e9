"""The example that reaches out: HTTP, a database, a container where an engine is there, and a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def run(folder: Path, *arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", *COMMAND.split(), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder / "shop-out"
    assert (out / "ranking.csv").read_text().splitlines() == [
        "O'Neil; DROP TABLE shop_orders,101.00" if variables else "O'Neil; DROP TABLE shop_orders,101",
        "Ada,19.50" if variables else "Ada,19.5",
        "Grace,7.25",
        "Ada,0.75",
    ]
    assert json.loads((out / "messages").read_text()) == {"orders": 4, "amount": 128.5}
