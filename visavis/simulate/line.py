"""One TLS connection without blocking, in the asyncio loop: plain sockets and `ssl`, because a transport of asyncio keeps a quarter of a
megabyte of buffers for each.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable

__all__ = ["Line"]

_CHUNK = 64 * 1024
_BIND_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT (ip(7)): the port is chosen at connect, so one source address serves 28,000 connections


class Line:
    """A connection that is being made, stands, or has ended. `ended` is called once, unless `close` was."""

    def __init__(
        self,
        address: tuple[str, int],
        name: str,
        context: ssl.SSLContext,
        *,
        source: str,
        opened: Callable[[], None],
        came: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._address, self._name, self._context, self._source = address, name, context, source
        self._opened, self._came, self._ended = opened, came, ended
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._out = bytearray()
        self._reading = self._writing = False
        self._step: Callable[[], None] = self._connected

    def open(self) -> None:
        """Begin; failure is told by `ended`, never from here."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = plain = socket.socket(family)
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._source:
                plain.setsockopt(socket.IPPROTO_IP, _BIND_NO_PORT, 1)
                plain.bind((self._source, 0))
            code = plain.connect_ex(self._address)
        except OSError as error:
            code = error.errno or errno.EIO
        if code in (0, errno.EINPROGRESS):
            self._want(read=False, write=True)
        else:
            self._loop.call_soon(self._fail, os.strerror(code))

    def send(self, data: bytes) -> None:
        """Write now what fits; the rest follows. Never reads, so it may be called from `came`."""
        self._out += data
        if not self._writing and self._step == self._exchange:
            self._flush()

    def close(self) -> None:
        """End it at once and in silence: what was not written yet is not."""
        plain, self._socket = self._socket, None
        if plain is not None:
            if plain.fileno() >= 0:
                self._loop.remove_reader(plain.fileno())
                self._loop.remove_writer(plain.fileno())
            plain.close()

    # --- steps; each is called when the socket is ready for it

    def _connected(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(os.strerror(code))
            return
        self._want(read=False, write=False)
        try:
            self._socket = self._context.wrap_socket(self._socket, server_hostname=self._name, do_handshake_on_connect=False)
        except OSError as error:  # the other end was gone again
            self._fail(str(error))
            return
        self._step = self._handshake
        self._handshake()

    def _handshake(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._want(read=True, write=False)
        except ssl.SSLWantWriteError:
            self._want(read=False, write=True)
        except OSError as error:
            self._fail(str(error))
        else:
            self._step = self._exchange
            self._want(read=True, write=False)
            self._opened()

    def _exchange(self) -> None:
        """Read all there is, write what is possible. After each callback this line may have been closed."""
        try:
            while self._socket is not None:
                data = self._socket.recv(_CHUNK)
                if not data:
                    self._fail("the other end closed")
                    return
                self._came(data)
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self._fail(str(error))
            return
        self._flush()

    def _flush(self) -> None:
        waits = False
        try:
            while self._out and self._socket is not None:
                del self._out[: self._socket.send(self._out)]
        except (ssl.SSLWantWriteError, BlockingIOError):
            waits = True
        except OSError as error:
            self._fail(str(error))
            return
        self._want(read=True, write=waits)

    def _want(self, *, read: bool, write: bool) -> None:
        if self._socket is None:
            return
        number = self._socket.fileno()
        if read != self._reading:
            _ = self._loop.add_reader(number, self._ready) if read else self._loop.remove_reader(number)
        if write != self._writing:
            _ = self._loop.add_writer(number, self._ready) if write else self._loop.remove_writer(number)
        self._reading, self._writing = read, write

    def _ready(self) -> None:
        if self._socket is not None:
            self._step()

    def _fail(self, why: str) -> None:
        if self._socket is not None:
            self.close()
            self._ended(why)
