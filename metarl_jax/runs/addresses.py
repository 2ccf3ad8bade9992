"""Addresses of other machines: what can be one, and whether somebody is there."""

import contextlib
import ipaddress
import re
import socket
import time
import warnings
from collections.abc import Iterator


def parse(address: str, *, name: str) -> tuple[str, int]:
    """Reads `host:port`.

    Args:
      address: the words.
      name: what it is the address of, for the sentence.

    Raises:
      ValueError: if it is not of that form, or no address of the internet is.
    """
    match = re.fullmatch(r"(\[[^\]]+\]|[^:/\s]+):(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise ValueError(
            f"{name} must be host:port or auto, with a port from 1 to 65535; got "
            f"{address!r}"
        )
    host = match[1].strip("[]")
    numeric = re.fullmatch(r"[\d.]+", host) or match[1] != host
    try:
        if numeric:
            ipaddress.ip_address(host)
        else:
            host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise ValueError(
            f"{name} must be the address or the name of a machine; got {address!r}: "
            f"{error}"
        ) from None
    return host, int(match[2])


@contextlib.contextmanager
def listening(port: int, *, name: str) -> Iterator[None]:
    """Listens at a port of this machine for as long as the context lasts.

    Raises:
      ValueError: if that cannot be done.
    """
    try:
        listener = socket.create_server(("", port))
    except OSError as error:
        raise ValueError(
            f"process 0 must be able to listen at port {port} of {name}; got "
            f"{error.strerror}"
        ) from None
    with listener:
        yield


def wait_for(address: str, *, name: str, seconds: float) -> None:
    """Waits until somebody answers at an address, and says so if it takes time.

    Raises:
      ValueError: if nobody has answered after some seconds.
    """
    host, port = parse(address, name=name)
    end, told = time.monotonic() + seconds, False
    while True:
        left = end - time.monotonic()
        try:
            with socket.create_connection((host, port), timeout=max(left, 1.0)):
                return
        except OSError as error:
            reason = error.strerror or str(error)
        if left <= 0:
            raise ValueError(
                f"nobody answers at the {name} {address} within {seconds:g} seconds: "
                f"{reason}"
            )
        if not told:
            warnings.warn(
                f"nobody answers at the {name} {address} yet ({reason}); waiting for "
                f"{seconds:g} seconds",
                stacklevel=2,
            )
            told = True
        time.sleep(min(0.5, max(left, 0.0)))
