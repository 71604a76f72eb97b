"""A PostgreSQL of our own: a cluster in a folder that goes with it, run by somebody who is not root, on a free port."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.runtime.telemetry.support import free_port

PASSWORD = "correct horse"


def _program(name):
    """Debian keeps the server's programs out of the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))
    return found or pytest.skip(f"{name} is not there: apt-get install postgresql (scripts/system.sh)")


class Cluster:
    """`start` and `stop` may be called again; `database()` makes an empty database and returns its URL."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self._numbers = itertools.count(1)
        # postgres refuses to be root.
        name = "nobody" if os.getuid() == 0 else ""
        self._as = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}
        if name:
            os.chown(folder, pwd.getpwnam(name).pw_uid, -1)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        initdb = [_program("initdb"), "-D", folder / "data", "-U", "visavis", "--pwfile", folder / "password", "-E", "UTF8", "--locale=C"]
        self._run([*initdb, "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
        self.start()

    def _run(self, command):
        subprocess.run(command, check=True, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **self._as)

    def start(self, **settings):
        """Begin; `settings` are postgresql.conf's."""
        wanted = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
        } | settings
        options = " ".join(f"-c {name}={value}" for name, value in wanted.items())
        self._run([_program("pg_ctl"), "-D", self.folder / "data", "-w", "-s", "-l", self.folder / "log", "-o", options, "start"])

    def stop(self, how="immediate"):
        """End; `immediate` is as if it had crashed."""
        self._run([_program("pg_ctl"), "-D", self.folder / "data", "-w", "-s", "-m", how, "stop"])

    def freeze(self, frozen=True):
        """Stop the postmaster: new connections get no answer."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def url(self, name="postgres", password=PASSWORD):
        return f"postgresql://visavis:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{name}"

    def ask(self, sql, name="postgres"):
        """One statement as the administrator."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def database(self, more=""):
        """The URL of an empty database."""
        name = f"fleet_{next(self._numbers)}"
        self.ask(f"CREATE DATABASE {name} {more}")
        return self.url(name)

    @contextmanager
    def corner(self):
        """The URL of an empty place in a database, cheaper than one of its own; it goes with the block."""
        name = f"corner_{next(self._numbers)}"
        self.ask(f"CREATE SCHEMA {name}")
        yield f"{self.url()}?options=-csearch_path%3D{name}"
        self.ask(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="session")
def cluster():
    """The PostgreSQL of this run of tests."""
    with tempfile.TemporaryDirectory(prefix="visavis-pg-", dir="/tmp") as folder:
        made = Cluster(Path(folder))
        yield made
        made.stop()
