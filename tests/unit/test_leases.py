"""How long what a dead owner has started on clusters may still run."""

from __future__ import annotations

import json
import os
import time

import pytest

from liteflow.state.leases import seconds_left
from liteflow.state.process_identity import boot_id

HERE = os.uname().nodename
CLUSTERS = json.dumps({"clusters": {"lab": {"slots": 4, "lease_s": 15.0}, "big": {"slots": 9, "lease_s": 40}}})


def test_an_owner_that_died_on_this_machine_has_left_links_that_have_ended() -> None:
    assert seconds_left(CLUSTERS, HERE, boot_id()) == 1.0


def test_the_longest_lease_counts_where_the_owner_was_on_another_machine() -> None:
    assert seconds_left(CLUSTERS, "elsewhere", boot_id()) == 41.0


def test_after_a_restart_of_this_machine_the_time_since_then_counts() -> None:
    long_lease = json.dumps({"clusters": {"lab": {"lease_s": 1e9}}})
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 1e9 - up_s - 60 < seconds_left(long_lease, HERE, "another-boot") <= 1e9 + 1 - up_s
    assert seconds_left(json.dumps({"clusters": {"lab": {"lease_s": 0.001}}}), HERE, "another-boot") == 0.0


@pytest.mark.parametrize("settings", ["{}", "", "[]", '{"clusters": 5}', '{"clusters": {"a": 5}}', '{"clusters": {}}'])
def test_without_clusters_nothing_is_left(settings: str) -> None:
    assert seconds_left(settings, "elsewhere", None) == 0.0
