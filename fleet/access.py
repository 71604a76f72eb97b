"""How this controller and its projections sign in at the broker: certificates of ours, or those that whoever runs the broker gave it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.authority import Authority, Issued, write_private
from fleet.broker import CONTROLLER
from fleet.link import Login
from fleet.projections.outlet import Target
from fleet.settings import Settings
from fleet.upkeep import Upkeep

__all__ = ["Access"]


class Access:
    """Certificates of ours lie in the authority's folder and renew themselves (`upkeep`)."""

    def __init__(self, settings: Settings, authority: Authority, upkeep: Upkeep, now_ms: Callable[[], int]) -> None:
        self._settings, self._authority, self._upkeep, self._now = settings, authority, upkeep, now_ms
        self._folder = settings.data / "authority"

    @property
    def login(self) -> Login:
        """The controller's own."""
        outside = self._settings.outside
        certificate, key = self._folder / "controller.pem", self._folder / "controller.key"
        if outside is None:
            host, port, name, ca = "localhost", self._settings.broker_port, CONTROLLER, self._folder / "ca.pem"
            return Login(host=host, port=port, name=name, ca=ca, certificate=certificate, key=key)
        return Login(
            host=outside.host,
            port=outside.port,
            name=outside.name,
            ca=outside.ca or self._folder / "ca.pem",
            certificate=outside.certificate or certificate,
            key=outside.key or key,
        )

    @property
    def broker_ca(self) -> bytes:
        """Who signed the broker's certificate, and the boxes', whose new certificates they check by it."""
        outside = self._settings.outside
        return (outside.ca.read_bytes() if outside is not None and outside.ca is not None else b"") + self._authority.pem

    def certify(self) -> None:
        """Keep a certificate for the controller, unless it was given one."""
        outside = self._settings.outside
        if outside is None or outside.certificate is None:
            login = self.login
            self._keep(login.name, login.certificate, login.key)

    def own(self, name: str) -> Target:
        """The fleet's own broker, as one of ours uses it, with a certificate that is kept for it."""
        certificate, key = self._folder / f"{name[1:]}.pem", self._folder / f"{name[1:]}.key"
        self._keep(name, certificate, key)
        login = self.login
        return Target(host=login.host, port=login.port, tls=True, ca=login.ca, certificate=certificate, key=key)

    def _keep(self, name: str, certificate: Path, key: Path) -> None:
        def write(issued: Issued) -> None:
            write_private(certificate, issued.certificate)
            write_private(key, issued.key)

        write(self._upkeep.keep(name, write, self._now()))
