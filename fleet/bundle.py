"""What a technician carries to a box: its certificate, its key, our authority, and the lines for kiosk.toml."""

from __future__ import annotations

from pathlib import Path

from fleet.authority import Issued, write_private
from fleet.errors import BadRequest

__all__ = ["bundle", "write_bundle", "write_files"]

_TOML = """\
# For the box's kiosk.toml; paths are relative to it. The key is secret: it exists in this folder only.
[fleet]
broker = "{broker}"
{renewal}tenant = "{tenant}"
device = "{name}"
ca = "ca.pem"
certificate = "{name}.pem"
key = "{name}.key"
attributes = {{ site = "", model = "" }}
"""


def bundle(issued: Issued, ca: bytes, broker: str, tenant: str, renewal: str = "") -> dict[str, bytes]:
    """The files by name. `broker` is HOST:PORT as the box reaches it; `renewal` where it asks once its certificate has ended, "" at the
    broker's host and the port above.
    """
    name = issued.name
    toml = _TOML.format(broker=broker, tenant=tenant, name=name, renewal=f'renewal = "{renewal}"\n' if renewal else "").encode()
    return {"ca.pem": ca, f"{name}.pem": issued.certificate, f"{name}.key": issued.key, "fleet.toml": toml}


def write_bundle(files: dict[str, bytes], folder: Path) -> None:
    """Write the files, readable by their owner only. Raises BadRequest if the folder holds a bundle already."""
    write_files(files, folder)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """The same for any certificate."""
    if (folder / "fleet.toml").exists() or (folder / "ca.pem").exists():
        raise BadRequest(f"{folder} holds a bundle already: choose another folder with --out, or remove it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in files.items():
        write_private(folder / name, data)
