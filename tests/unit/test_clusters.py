"""Clusters as data: what their declarations become, and which are refused."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest

from lightflow.clusters import cluster_of, dask, ssh
from lightflow.clusters.shipping import ByValue
from lightflow.engine.dag_builder import build_dag
from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.plugins.registry import Registry
from lightflow.service.runs import RunOptions, load
from lightflow.tasks import included_file
from liteflow import Dag, DefinitionError, PayloadError, Pool
from liteflow.record import replace
from liteflow.remote.cluster import Certificates, Cluster
from liteflow.work import Call

FLOW = """
workflow_name: flow
clusters:
  lab: {ssh: [node1, "ann@node2:8"], python: /opt/py/bin/python, lease: 1m}
settings: {mode: lab}
defaults: {mode: lab}
tasks:
  far: {run: echo}
  here: {run: echo, mode: thread}
  waits: {type: wait, duration: 5s}
  contained: {run: echo, container: alpine}
"""


def test_hosts_become_command_lines_of_ssh() -> None:
    cluster = ssh("node1", "ann@node2:8", python="/opt/py/bin/python", lease=60)
    program = (sys.executable, "-m", "liteflow.remote.hosts")
    assert (cluster.argv[:3], cluster.slots, cluster.lease_s) == (program, 12, 60.0)
    first, second = json.loads(cluster.argv[3])
    assert (first["name"], first["slots"]) == ("node1", 4)
    assert (second["name"], second["slots"]) == ("ann@node2", 8)
    assert second["argv"][0] == "ssh"
    assert "ann@node2" in second["argv"]
    assert second["argv"][-3:] == ["/opt/py/bin/python", "-m", "liteflow.remote.agent"]
    assert second["argv"][second["argv"].index("-R") + 1] == "{socket}:{address}:{port}"


def test_an_address_of_ipv6_is_in_brackets_that_ssh_does_not_get() -> None:
    cluster = ssh("[2001:db8::5]", "ann@[fe80::1%eth0]:8")
    first, second = json.loads(cluster.argv[3])
    assert (first["name"], first["slots"], second["name"], second["slots"]) == (
        *("[2001:db8::5]", 4),
        *("ann@[fe80::1%eth0]", 8),
    )
    assert "2001:db8::5" in first["argv"]
    assert "ann@fe80::1%eth0" in second["argv"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ssh(), "needs a host"),
        (lambda: ssh("-oProxyCommand=x"), "host '-oProxyCommand=x'"),
        (lambda: ssh("node1:0"), "host 'node1:0'"),
        (lambda: ssh("a b"), "host 'a b'"),
        (lambda: ssh("node1", "ann@node1", "node1:8"), "host 'node1:8': list a machine once"),
        (lambda: ssh("[::1]", "[::1]:8"), "host '[::1]:8': list a machine once"),
        (lambda: ssh("::1"), "host '::1'"),
        (lambda: ssh("[node1]"), "host '[node1]'"),
        (lambda: ssh("node1", lease=1), "lease=1 must be 2 to 3600 seconds"),
        (lambda: ssh("node1", lease=float("nan")), "lease=nan"),
        (lambda: ssh("node1", patience=-1), "patience=-1 must be a number of seconds, 0 or more"),
        (lambda: dask("tls://h:1", tls={"ca_file": "a"}), "must have the paths `ca_file` and `cert`"),
        (lambda: dask("tls://h:1", tls={"ca_file": "a", "cert": "b", "ca": "c"}), "must have the paths"),
        (lambda: cluster_of("slurm", "node1"), "not 'slurm'"),
    ],
)
def test_what_is_not_possible_is_refused(make: Callable[[], Cluster], message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        make()
    assert message in str(error.value)


def test_a_file_declares_certificates_and_patience(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("""
clusters:
  big: {dask: "tls://192.0.2.5:8786", tls: {ca_file: ca.pem, cert: /keys/me.pem}, patience: 1h}
  lab: {ssh: node1, patience: 0}
tasks: {a: {run: echo}}
""")
    clusters = load_workflow(str(tmp_path / "flow.yaml")).limits.clusters
    assert (clusters["big"].patience_s, clusters["lab"].patience_s) == (3600.0, 0.0)
    expected = Certificates(ca_file=f"{tmp_path}/ca.pem", certificate_file="/keys/me.pem", key_file="/keys/me.pem")
    assert clusters["big"].certificates == expected
    with_key = dask("tls://192.0.2.5:8786", tls={"ca_file": "a", "cert": "b", "key": "c"}, folder="/keys").certificates
    assert with_key == Certificates(ca_file="/keys/a", certificate_file="/keys/b", key_file="/keys/c")


def test_certificates_are_not_for_a_scheduler_that_does_not_speak_tls(tmp_path: Path) -> None:
    (tmp_path / "scheduler.json").write_text('{"address": "tcp://127.0.0.1:8786"}')
    cluster = dask(str(tmp_path / "scheduler.json"), tls={"ca_file": "a", "cert": "b"})
    with pytest.raises(DefinitionError, match=r"its scheduler is at tcp://127\.0\.0\.1:8786, which does not speak TLS"):
        cluster.started()


def test_a_command_line_names_machines_with_commas() -> None:
    cluster = cluster_of("ssh", "node1, node2:8")
    assert cluster.machines == "node1,node2:8", "as a resume names them"
    assert replace(cluster, machines="") == ssh("node1", "node2:8")


def test_a_file_declares_clusters() -> None:
    spec = loads_workflow(FLOW)
    assert spec.limits.clusters == {"lab": ssh("node1", "ann@node2:8", python="/opt/py/bin/python", lease=60)}
    dag = build_dag(spec, Registry(), "", folder="/")
    modes = {task_id: task.options.mode for task_id, task in dag.tasks.items()}
    assert modes == {"far": "lab", "here": "thread", "waits": "process", "contained": "lab"}
    dag.compile()


def _included(tmp_path: Path, lab: str) -> Path:
    path = tmp_path / "inner.yaml"
    path.write_text(f"clusters: {{lab: {{ssh: {lab}}}}}\nsettings: {{mode: lab}}\ntasks: {{a: {{run: echo}}}}\n")
    return path


def test_an_included_file_brings_its_clusters(tmp_path: Path) -> None:
    _included(tmp_path, "node7")
    (tmp_path / "outer.yaml").write_text("tasks: {g: {include: inner.yaml}}\n")
    spec = load_workflow(str(tmp_path / "outer.yaml"))
    assert spec.limits.clusters == {"lab": ssh("node7")}
    assert spec.tasks["g.a"].mode == "lab"
    dag = Dag("flow")
    dag.include("g", included_file(tmp_path / "inner.yaml"))
    assert dag.limits.clusters == {"lab": ssh("node7")}


def test_two_clusters_of_a_name_are_refused(tmp_path: Path) -> None:
    path = _included(tmp_path, "node7")
    (tmp_path / "outer.yaml").write_text("clusters: {lab: {ssh: node8}}\ntasks: {g: {include: inner.yaml}}\n")
    with pytest.raises(WorkflowError, match='cluster "lab" differs in the included file'):
        load_workflow(str(tmp_path / "outer.yaml"))
    dag = Dag("flow", clusters={"lab": ssh("node8")})
    with pytest.raises(DefinitionError, match="cluster 'lab' differs"):
        dag.include("g", included_file(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "quantum"},
            "there is no mode 'quantum'; declare a cluster under `clusters`; flow can",
        ),
        ({"mode": "thraed"}, "there is no mode 'thraed', did you mean \"thread\"?"),
        ({"cluster": "node1"}, "--mode ssh --cluster … or --mode dask"),
        ({"mode": "process", "cluster": "node1"}, "is ssh or dask, not 'process'"),
        ({"mode": "dask", "cluster": "192.0.2.5:8786"}, "'192.0.2.5:8786' must be an address such as tcp://"),
        ({"mode": "dask"}, "there is no mode 'dask' without its machines: --mode dask --cluster …"),
        ({"mode": "ssh", "cluster": "-oProxyCommand=x"}, "host '-oProxyCommand=x'"),
    ],
)
def test_a_mode_that_does_not_exist_is_one_sentence(tmp_path: Path, options: dict[str, str], message: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("tasks: {a: {run: echo}}\n")
    with pytest.raises(DefinitionError) as error:
        load(str(path), RunOptions(**options))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_the_modes_of_a_workflow_are_those_of_this_machine_and_its_clusters(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("clusters: {lab: {ssh: node1}}\ntasks: {a: {run: echo}}\n")
    assert load(str(path), RunOptions(mode="lab")).clusters == {"lab": ssh("node1")}
    assert load(str(path), RunOptions(mode="async")).settings.mode == "thread"


def test_a_scheduler_of_dask_becomes_the_command_line_of_its_placer() -> None:
    cluster = dask("tcp://127.0.0.1:8786", slots=6)
    assert (cluster.slots, cluster.started().address) == (6, "127.0.0.1")
    assert cluster.started().argv == (sys.executable, "-m", "lightflow.clusters.dask", "tcp://127.0.0.1:8786")
    assert dask("tcp://127.0.0.1:8786", address="192.0.2.1").started().address == "192.0.2.1"
    with pytest.raises(DefinitionError, match="must be an address such as tcp://"):
        dask("192.0.2.5:8786")
    with pytest.raises(DefinitionError, match="lease="):
        dask("tcp://127.0.0.1:8786", lease=0)


def test_a_scheduler_file_is_read_when_a_run_starts(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("clusters: {big: {dask: s.json, slots: 3}}\ntasks: {a: {run: echo}}\n")
    cluster = load_workflow(str(tmp_path / "flow.yaml")).limits.clusters["big"]
    with pytest.raises(DefinitionError, match=r"s\.json cannot be read \(No such file or directory\): `dask scheduler"):
        cluster.started()
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(DefinitionError, match=r"s\.json is not a scheduler file"):
        cluster.started()
    (tmp_path / "s.json").write_text('{"address": "tcp://127.0.0.1:9"}')
    assert (cluster.started().argv[-1], cluster.started().address) == ("tcp://127.0.0.1:9", "127.0.0.1")


def test_a_machine_that_has_no_address_is_one_sentence() -> None:
    with pytest.raises(DefinitionError, match=r"the machine 'nowhere\.invalid' of the scheduler cannot be found"):
        dask("tcp://nowhere.invalid:8786").started()


def test_a_file_declares_a_dask_cluster() -> None:
    spec = loads_workflow("""
clusters:
  big: {dask: "tcp://192.0.2.5:8786", slots: 8, lease: 20s, address: 192.0.2.1, plain_secrets: true}
pools: {gpu: {slots: 4, resource: GPU}}
settings: {mode: big, max_lost: 7}
tasks: {a: {run: echo, pool: gpu}}
""")
    made = dask("tcp://192.0.2.5:8786", slots=8, lease=20, address="192.0.2.1", plain_secrets=True)
    assert (spec.limits.clusters, spec.limits.max_lost) == ({"big": made}, 7)
    assert spec.limits.pools == {"gpu": Pool(4, resource="GPU")}


def test_functions_of_the_user_go_with_their_code_and_installed_ones_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_value = ssh("node1").shipping
    assert isinstance(by_value, ByValue)
    (tmp_path / "steps_here.py").write_text("def inner():\n    return 41\n\ndef work():\n    return inner() + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    steps = importlib.import_module("steps_here")
    before = cloudpickle.list_registry_pickle_by_value()
    data = by_value.dump(Call(steps.work))
    assert cloudpickle.list_registry_pickle_by_value() == before, "the program may use cloudpickle, too"
    monkeypatch.delitem(sys.modules, "steps_here")
    monkeypatch.syspath_prepend("/nowhere")
    sys.path.remove(str(tmp_path))
    call = pickle.loads(data)
    assert call.func() == 42, "the module is not there, and is not needed"
    assert pickle.loads(by_value.dump(Call(json.dumps))).func is json.dumps
    with pytest.raises(PayloadError, match="cannot be sent to another machine"):
        by_value.dump(Call(print, {"lock": threading.Lock()}))
