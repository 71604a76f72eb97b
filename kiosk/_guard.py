"""Who may talk to the stage: only the page that the stage itself served, on this machine, since this start.

Three independent checks: the Host header (a name that resolves to us by DNS rebinding is refused), the Origin of every socket, and a
secret that came with the page: half in an HttpOnly SameSite=Strict cookie, half in the page's own text. Cookies do not know ports, so
a page of another server on localhost would have the browser send the cookie; it cannot read our page, so it never has the other half.
"""

from __future__ import annotations

import hashlib
import hmac

from aiohttp import web

__all__ = ["Guard"]

_CSP = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types visavis"
)
HEADERS = {
    "Content-Security-Policy": _CSP,
    # Isolated from other pages: nobody holds a handle to our window, and performance.now() has 5 µs instead of 100 µs.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=(), usb=(), serial=(), hid=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Checks requests against one token and one port."""

    def __init__(self, token: str, port: int) -> None:
        self._port = port
        self._cookie = self._derive(token, "cookie")
        self.key = self._derive(token, "page")
        self.boot = self._derive(token, "boot")[:16]  # tells one start of the kiosk from the next; no secret

    @staticmethod
    def _derive(token: str, use: str) -> str:
        return hmac.new(token.encode(), use.encode(), hashlib.sha256).hexdigest()

    @property
    def hosts(self) -> tuple[str, str]:
        """What the Host header may say."""
        return f"localhost:{self._port}", f"127.0.0.1:{self._port}"

    def check_host(self, request: web.Request) -> None:
        """403 for a request that names another host, or that another site's page caused (navigations apart)."""
        if request.headers.get("Host", "") not in self.hosts:
            raise web.HTTPForbidden(text="this address is served to the kiosk's own screen only\n", headers=HEADERS)
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and request.headers.get("Sec-Fetch-Mode") != "navigate":
            raise web.HTTPForbidden(text="requests of other pages are refused\n", headers=HEADERS)

    def check_socket(self, request: web.Request) -> None:
        """403 unless our own page opens this socket."""
        self.check_host(request)
        host = request.headers["Host"]
        cookie = request.cookies.get(self.cookie_name, "")
        key = request.query.get("k", "")
        genuine = hmac.compare_digest(cookie.encode(), self._cookie.encode()) and hmac.compare_digest(key.encode(), self.key.encode())
        if request.headers.get("Origin") != f"http://{host}" or not genuine:
            raise web.HTTPForbidden(text="this socket belongs to the kiosk's own page\n", headers=HEADERS)

    @property
    def cookie_name(self) -> str:
        """With the port in it: kiosks on one machine do not overwrite each other's."""
        return f"visavis-{self._port}"

    def give(self, response: web.StreamResponse) -> None:
        """Set the cookie half of the secret."""
        response.set_cookie(self.cookie_name, self._cookie, httponly=True, samesite="Strict", path="/")
