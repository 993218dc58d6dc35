"""Loopback never goes through a proxy, whatever `http_proxy` or `grpc_proxy` say: local workers are on this machine."""

import os
from collections.abc import Mapping

NO_PROXY = "no_grpc_proxy"
"""The variable that gRPC reads first. Other programs do not read it."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def not_proxied(environment: Mapping[str, str]) -> str:
    """The value of NO_PROXY: the hosts that the environment exempts from proxies, and loopback."""
    given = environment.get(NO_PROXY, environment.get("no_proxy", ""))
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    return ",".join(dict.fromkeys([*hosts, *LOOPBACK]))


def exempt_loopback() -> None:
    """Exempt loopback from proxies in this process and in those that it starts."""
    os.environ[NO_PROXY] = not_proxied(os.environ)
