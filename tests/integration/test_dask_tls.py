"""A Dask cluster whose connections are TLS: links have its certificates, and a run may have secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from dask_kit import dask_cluster

from lightflow.clusters import dask
from liteflow import Dag, DefinitionError

_VARIABLE = "DASK_DISTRIBUTED__COMM__TLS__"


def token_length() -> int:
    import os

    return len(os.environ["TOKEN"])


def test_a_run_with_secrets_uses_the_certificates_of_the_cluster(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    paths = [str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    monkeypatch.setenv("TOKEN", "s3cret-value")
    options = [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), paths, strict=True) for word in pair]
    with dask_cluster(tmp_path, workers=1, threads=1, tls=options) as cluster:
        with pytest.raises(DefinitionError, match="needs certificates: name the files in the configuration of Dask"):
            _run(cluster.address, db, tmp_path)
        own = dict(zip(("ca_file", "cert", "key"), paths, strict=True))
        assert _run(cluster.address, db, tmp_path, tls=own) == len("s3cret-value")
        for name, path in zip(("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"), paths, strict=True):
            monkeypatch.setenv(_VARIABLE + name, path)
        _refresh()
        assert _run(cluster.address, db, tmp_path) == len("s3cret-value")
    monkeypatch.undo()
    _refresh()


def _refresh() -> None:
    import dask.config

    dask.config.refresh()


def _run(address: str, db: str, folder: Path, **options: Any) -> object:
    """Run a task that has a secret. Without TLS the address of the owner, which is not loopback, is refused."""
    dag = Dag("flow", db, clusters={"big": dask(address, slots=1, address="0.0.0.0", **options)}, secrets=["TOKEN"])
    dag.task(token_length, secrets=["TOKEN"])
    run = dag.run(mode="big", log_dir=str(folder / "logs"))
    return run.raise_for_failure().value("token_length")
