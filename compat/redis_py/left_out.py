"""What of redis-py's tests does not concern SofaDB, or not yet, by name; and why what fails does."""

from __future__ import annotations

from fnmatch import fnmatchcase

CLUSTER = "Redis Cluster: every node of SofaDB holds everything"
SENTINELS = "needs Sentinels and a service with names of its own (SENTINEL is tried with ioredis)"
MODULES = "commands of modules, which are not there"
TLS = "TLS, which comes later"
ACL = "users and ACL, which come later"
STREAMS = "streams, which come later"
GEO = "geo commands, which come later"
HYPERLOGLOG = "HyperLogLog, which comes later"
FUNCTIONS = "functions, which come later"
TRACKING = "tracking for caches of clients, which comes later"
PRODUCT = "another product's servers"
NO_SERVER = "asks no server that it is told of"
DEBUG = "DEBUG ERROR is refused here, always, and by Redis unless `enable-debug-command` is set"
DEFAULT_PORT = "wants a server at port 6379, whatever it is told"

FILES = {
    "*/test_acl*": ACL,
    "*/test_bloom.py": MODULES,
    "*/test_cache.py": TRACKING,
    "*/test_cluster*.py": CLUSTER,
    "*/test_credentials.py": ACL,
    "*/test_function.py": FUNCTIONS,
    "*/test_json.py": MODULES,
    "*/test_multidb/*": NO_SERVER,
    "*/test_observability/*": NO_SERVER,
    "*/maint_notifications/*": NO_SERVER,
    "*/test_scenario/*": PRODUCT,
    "*/test_search*.py": MODULES,
    "*/test_sentinel*.py": SENTINELS,
    "*/test_ssl.py": TLS,
    "*/test_timeseries.py": MODULES,
    "*/test_vsets.py": MODULES,
}
"""Files that are not run."""

MARKS = {"onlycluster": CLUSTER, "redismod": MODULES, "ssl": TLS, "replica": CLUSTER}
"""Marks of tests that are not run."""

TESTS = {
    "*::test_acl_*": ACL,
    "*::test_function*": FUNCTIONS,
    "*::test_fcall*": FUNCTIONS,
    "*::test_geo*": GEO,
    "*::test_old_geo*": GEO,
    "*::test_pf*": HYPERLOGLOG,
    "*::test_x[a-z]*": STREAMS,
    "*::test_async_xread*": STREAMS,
    "*::test_*_json_module_*": MODULES,
    "*::test_module*": MODULES,
    "*::test_cluster_*": CLUSTER,
    "*::test_client_tracking*": TRACKING,
    "*::test_*ssl*": TLS,
    "*::*Cluster*": CLUSTER,
}
"""Tests that are not run, by a pattern of file, class and name."""

FAILURES = {
    "*::test_auth": "sets a password by CONFIG SET; here a node has its passwords from a file",
    "*::test_busy_loading_*": DEBUG,
    "*::test_connect_invalid_*": DEBUG,
    "*::test_connect_no_auth_*": DEBUG,
    "*::test_oom_error": DEBUG,
    "*::test_read_only_error": DEBUG,
    "*::test_connect_with_retries": DEFAULT_PORT,
    "*::test_create_single_connection_client_from_url": DEFAULT_PORT,
    "*::test_max_connections": DEFAULT_PORT,
    "*::test_multiple_connections": DEFAULT_PORT,
    "*::test_retry_connect_on_timeout_error": DEFAULT_PORT,
    "*::test_reuse_previously_released_connection": DEFAULT_PORT,
    "*::test_external_auth_provider_error": "its own mock of a socket does not take what the client gives it",
    "*::TestMonitor::test_lua_script": "MONITOR does not show what scripts call",
    "*::test_client_kill_filter_by_user": ACL,
    "*::test_get_moveable_keys": STREAMS,
    "*::test_config_set_multi_params": "CONFIG SET maxmemory: nothing is ever evicted, so there is nothing to set",
    "*::test_object": "OBJECT IDLETIME: a node answers reads alone, so nobody knows when a key was last read",
    "*::test_readonly_invalid_cluster_state": "READONLY, which Redis refuses where there is no cluster, lets reads be stale",
    "*::test_replicaof": "REPLICAOF: members come and go by `sofadb member`",
    "*::test_role": "a node that does not lead says so: its role is `slave`",
}
"""Tests that are run and fail, by a pattern, and why."""


def reason_of(table: dict[str, str], name: str) -> str:
    """What the first pattern that fits says; empty if none does."""
    return next((reason for pattern, reason in table.items() if fnmatchcase(name, pattern)), "")
