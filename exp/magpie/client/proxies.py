"""Which proxy a request goes through.

`--proxy` is for every server that is not on this machine; '' is none. Without it HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
NO_PROXY are for services elsewhere: a job's own servers are on this machine or near it, where a proxy cannot reach them.
"""

from __future__ import annotations

import ipaddress
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from magpie.common.console import MagpieError


def proxy_of(url: str, given: str | None) -> str | None:
    """Return the proxy for a URL, or None.

    Raises:
        MagpieError: the proxy is of a kind that is not supported.
    """
    parts = urlsplit(url)
    return _proxy_of(parts.scheme, parts.hostname or "", given)


@cache
def _proxy_of(scheme: str, host: str, given: str | None) -> str | None:
    if _is_here(host):
        return None
    if given is not None:
        return given or None
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _is_near(host) or proxy_bypass(host):
        return None
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise MagpieError(
            f"the environment ({scheme.upper()}_PROXY or ALL_PROXY) names a proxy that is not http://…. Name one with --proxy, "
            "or say with --proxy '' that none is needed"
        )
    return proxy


def _is_here(host: str) -> bool:
    address = _address(host)
    return host.rstrip(".").lower().endswith("localhost") or (
        address is not None and (address.is_loopback or address.is_unspecified)
    )


def _is_near(host: str) -> bool:
    """Return whether a host is in the local network, by a name without a dot or a private address."""
    address = _address(host)
    return "." not in host and ":" not in host if address is None else address.is_private or address.is_link_local


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
