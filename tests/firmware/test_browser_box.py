"""The real Chromium in what a box makes of it: its sandbox within the unit's limits, and the managed policy."""

from __future__ import annotations

import http.server
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.install import UNITS, plan
from kiosk.browser import arguments

CHROMIUM = shutil.which("chromium") or ""
NOBODY = 65534
TOLERATED = {"landlock_create_ruleset", "pkey_alloc"}
"""Chromium asks whether the kernel has these and does without."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM or os.geteuid() != 0, reason="needs Chromium, and root to become somebody else"),
]

PAGE = b"""<!doctype html><body><script>
(async () => {
  if (location.hostname !== "localhost") return;
  const frame = document.createElement("iframe");
  frame.src = location.href.replace("localhost", "127.0.0.1");
  const tried = new Promise(done => { frame.onload = done; });
  document.body.append(frame);
  await tried;
  const ask = async (what) => {
    try { (await navigator.mediaDevices.getUserMedia(what)).getTracks().forEach(t => t.stop()); return "granted"; }
    catch (error) { return error.name; }
  };
  const sound = new AudioContext();
  const full = () => innerWidth === screen.width && innerHeight === screen.height;
  for (let i = 0; i < 50 && !full(); i++) await new Promise(done => setTimeout(done, 100));
  const result = {audio: await ask({audio: true}), video: await ask({video: true}), sound: sound.state, full: full()};
  await fetch("/result", {method: "POST", body: JSON.stringify(result)});
})();
</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    """Serves the page, and notes who asked for it and what it found."""

    def do_GET(self) -> None:
        """The page."""
        assert isinstance(self.server, PageServer)
        self.server.asked.append(self.headers["Host"])
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def do_POST(self) -> None:
        """The page's result."""
        assert isinstance(self.server, PageServer)
        self.server.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class PageServer(http.server.ThreadingHTTPServer):
    """On loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: list[str] = []
        self.results: queue.Queue[dict[str, object]] = queue.Queue()

    @property
    def port(self) -> int:
        """Where."""
        return int(self.server_address[1])


@pytest.fixture
def page() -> Iterator[PageServer]:
    """A running page."""
    with PageServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of nobody's, where Chromium may write."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vv", ignore_cleanup_errors=True) as place:
        os.chown(place, NOBODY, NOBODY)
        yield Path(place)


def command(home: Path, *more: str) -> list[str]:
    """Chromium as nobody without new privileges, as the unit runs it: with its sandbox."""
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    browser = [CHROMIUM, "--headless=new", f"--user-data-dir={home / 'profile'}", "--no-first-run", "--disable-gpu"]
    return [*nobody, *more[:-1], *browser, *more[-1].split()]


def allowed() -> set[str]:
    """The system calls that the display's unit allows."""
    content = (UNITS / "etc/systemd/system/visavis-display.service").read_text()
    return set().union(*(expand(name) for value in re.findall(r"^SystemCallFilter=(.+)$", content, re.MULTILINE) for name in value.split()))


def expand(name: str) -> set[str]:
    """A system call, or all those of an @set."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    inside = {line.strip() for line in listed.splitlines()[1:]} - {""}
    return set().union(*(expand(item) for item in inside if not item.startswith("#")))


@pytest.mark.skipif(
    not shutil.which("strace") or not shutil.which("systemd-analyze"), reason="scripts/system.sh installs strace and systemd"
)
def test_the_sandbox_needs_no_more_than_the_unit_allows(home: Path) -> None:
    """Chromium shows a page with its sandbox on; of the system calls that the unit forbids it makes only those it can do without."""
    everything = subprocess.run(["systemd-analyze", "syscall-filter", "@known"], capture_output=True, text=True, check=True).stdout.split()
    names = {name for name in everything if re.fullmatch(r"[a-z_0-9]+", name)} - allowed() - expand("@default")
    # A question mark: no error for what this kernel or strace does not know.
    watched = ",".join(f"?{name}" for name in sorted(names))
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "--signal=none", "-o", str(home / "trace"), "-e", f"trace={watched}"]
    done = subprocess.run(
        command(home, *strace, "--dump-dom data:text/html,<p>hello"),
        env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "<p>hello</p>" in done.stdout, done.stderr[-2000:]
    made = set(re.findall(r"^\d+ (\w+)\(", (home / "trace").read_text(), re.MULTILINE))
    assert made <= TOLERATED


@pytest.fixture
def managed(page: PageServer, home: Path) -> list[str]:
    """The start of a command line in whose mount namespace our policy is installed for the page's address."""
    policy = home / "visavis.json"
    policy.write_bytes(plan(port=page.port)["etc/chromium/policies/managed/visavis.json"])
    folder = "/etc/chromium/policies/managed"
    script = f'mount -t tmpfs tmpfs /etc/chromium && mkdir -p {folder} && cp "$0" {folder} && exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(policy)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode or not Path("/etc/chromium").is_dir():
        pytest.skip("no mount namespaces here")
    return inside


def test_the_policy_gives_the_page_its_ears_and_nothing_else(page: PageServer, home: Path, managed: list[str]) -> None:
    """The kiosk's own page gets the microphone without a question and may play without a touch; the camera is denied; the same server by
    another name, in a frame, is not even asked.
    """
    line = [*managed, *command(home, f"--use-fake-device-for-media-stream http://localhost:{page.port}/")]
    with subprocess.Popen(line, env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.environ["PATH"]}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as browser:  # fmt: skip
        try:
            result = page.results.get(timeout=60)
        finally:
            browser.terminate()
    assert (result["audio"], result["video"], result["sound"]) == ("granted", "NotAllowedError", "running")
    assert set(page.asked) == {f"localhost:{page.port}"}


@pytest.mark.skipif(not shutil.which("cage") or not shutil.which("Xwayland"), reason="scripts/system.sh installs cage and xwayland")
def test_the_compositor_shows_the_page_and_nothing_else(page: PageServer, home: Path) -> None:
    """Cage on a screen that is not there, the kiosk's own command line in it, nobody's rights: the page fills the screen."""
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    browser = arguments(CHROMIUM, f"http://localhost:{page.port}", home / "profile", screen="wayland", extra=["--disable-gpu"])
    environment = {"HOME": str(home), "TMPDIR": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": os.environ["PATH"],
                   "WLR_BACKENDS": "headless", "WLR_RENDERER": "pixman", "WLR_LIBINPUT_NO_DEVICES": "1"}  # fmt: skip
    home.chmod(0o700)
    with subprocess.Popen([*nobody, "cage", "-d", "--", *browser], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          start_new_session=True) as compositor:  # fmt: skip
        try:
            result = page.results.get(timeout=60)
        finally:
            os.killpg(compositor.pid, signal.SIGTERM)
    assert (result["full"], result["sound"]) == (True, "running")
