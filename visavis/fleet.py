"""`visavis fleet …`: run the controller of a chain of boxes, give boxes their identity and take it back."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from visavis._fleet_store import folder_of, opened

if TYPE_CHECKING:
    from fleet.controller import Settings

__all__ = ["app"]

app = App(name="fleet", help="The fleet: the controller with its broker and console, certificates for boxes.")


@app.command
def serve(*, data: Path | None = None, host: str = "127.0.0.1", port: int = 8480, broker_host: str = "", broker_port: int = 8883,
          renewal_port: int = 0, name: tuple[str, ...] = (), tenant: str = "default", config: Path | None = None, sparkplug: str = "",
          sparkplug_broker: str = "", home_assistant: str = "", home_assistant_broker: str = "", database: str = "", broker: str = "",
          controller: str = "", broker_ca: Path | None = None, broker_cert: Path | None = None, broker_key: Path | None = None,
          broker_crl: Path | None = None, crl_url: str = "") -> int:  # fmt: skip
    """Run broker, store, API and console until Ctrl-C.

    Parameters
    ----------
    data
        Folder of everything that is kept: the authority's key, the store. By default in the state folder of this user.
    host
        Where the console listens. Other than this machine's own address it speaks HTTPS with a certificate of the fleet's authority.
    port
        Port of the console.
    broker_host
        Where the broker listens; by default on all interfaces.
    broker_port
        Port of the broker.
    renewal_port
        Port for boxes whose certificate has ended; by default the one above the broker's.
    name
        Host name or address under which boxes reach this machine, for the broker's certificate. May be given several times.
    tenant
        Part of all topics.
    config
        TOML file with the sections [sparkplug], [home_assistant], [oidc].
    sparkplug
        Show the boxes as devices of a Sparkplug B edge node in this group.
    sparkplug_broker
        Where: mqtt://HOST:PORT or mqtts://HOST:PORT; by default the fleet's own broker.
    home_assistant
        Show the boxes to Home Assistant under this discovery prefix, usually homeassistant.
    home_assistant_broker
        Where; by default the fleet's own broker.
    database
        Keep everything in this PostgreSQL: postgresql://USER@HOST/NAME. By default a file in the folder.
    broker
        Start no broker, use this one: mqtts://HOST:PORT. Then several controllers may share it and the database.
    controller
        This one's name at that broker, where it is ~controller-NAME; by default this machine's name.
    broker_ca
        Who signed that broker's certificate; by default the fleet's authority.
    broker_cert
        This controller's certificate there; by default one of the fleet's authority.
    broker_key
        The key of that certificate.
    broker_crl
        Write the list of revoked certificates here too, for that broker to read.
    crl_url
        Where that broker fetches the list: it is said in the certificates of boxes. The console serves it as /revoked.crl.

    """
    import socket

    from fleet.config import read_config, with_options
    from fleet.controller import Settings
    from fleet.outside import outside
    from fleet.quiet import Once

    given = with_options(
        read_config(config), sparkplug=sparkplug, sparkplug_broker=sparkplug_broker, home_assistant=home_assistant,
        home_assistant_broker=home_assistant_broker,
    )  # fmt: skip
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Once())
    settings = Settings(
        data=folder_of(data), host=host, port=port, broker_host=broker_host, broker_port=broker_port, tenant=tenant, names=name,
        config=given, renewal_port=renewal_port,
        database=database, crl_url=crl_url,
        outside=outside(
            broker, controller=controller or socket.gethostname(), ca=broker_ca, certificate=broker_cert, key=broker_key, crl=broker_crl
        ) if broker else None,
    )  # fmt: skip
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    """Exit status 1 if a part of it failed: whoever started it begins anew."""
    from fleet.controller import Controller
    from runtime.telemetry.times import SystemTimes

    controller = Controller(settings, SystemTimes())
    told: list[int] = []

    def stop(number: int) -> None:
        told.append(number)
        controller.ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await controller.start()
        ready = "is ready" if controller.link.connected.is_set() else "does not answer yet"
        print(f"The fleet's broker {ready}: {settings.broker}", flush=True)
        print(f"The console: {controller.welcome}", flush=True)
        await controller.ended.wait()
    finally:
        await controller.stop()
    return 0 if told else 1


@app.command
def enrol(
    name: str, *, data: Path | None = None, database: str = "", out: Path | None = None, broker: str = "", broker_ca: Path | None = None,
    crl_url: str = "", tenant: str = "default", days: int = 730
) -> int:  # fmt: skip
    """Make a certificate for a box, and a folder with all that its [fleet] section needs.

    Parameters
    ----------
    name
        The box's name: letters, digits, '.', '_', '-'.
    data
        The controller's folder.
    database
        Its PostgreSQL, if it has one.
    out
        Where the folder is made; by default ./NAME.
    broker
        HOST or HOST:PORT as the box reaches the broker; by default this machine's name.
    broker_ca
        As the controller was told.
    crl_url
        As the controller was told.
    tenant
        As the controller was told.
    days
        How long the certificate is valid.

    """
    from fleet import inventory, journal
    from fleet.bundle import bundle, write_bundle
    from fleet.controller import Settings
    from runtime.telemetry.times import SystemTimes

    now = SystemTimes().wall_ms()
    folder = out or Path(name)
    with opened(data, database, crl_url) as (db, authority):
        if (folder / "fleet.toml").exists():
            write_bundle({}, folder)  # says so, before a certificate is made
        issued = inventory.enrol(db, authority, name, days, now)
        journal.audit(db, now, "command line", "enrol", name, {"serial": issued.serial})
    files = bundle(issued, (broker_ca.read_bytes() if broker_ca else b"") + authority.pem, broker or Settings(data=folder).broker, tenant)
    write_bundle(files, folder)
    print(f"{folder}: copy it to the box and put the lines of fleet.toml into its kiosk.toml. It holds the box's key: delete it here.")
    return 0


@app.command
def renewals(*, data: Path | None = None, database: str = "", approve: str = "", refuse: str = "") -> int:
    """List the boxes whose certificate has ended and that ask for a new one, or decide about one.

    Parameters
    ----------
    data
        The controller's folder.
    database
        Its PostgreSQL, if it has one.
    approve
        Name of a box, or the beginning of its key's fingerprint: it gets a new certificate when it asks again.
    refuse
        The same: it gets none.

    """
    import datetime

    from fleet import journal, renewal
    from fleet.errors import BadRequest
    from runtime.telemetry.times import SystemTimes

    now, wanted = SystemTimes().wall_ms(), approve or refuse
    with opened(data, database) as (db, authority):
        asking = renewal.asking(db)
        if not wanted:
            for one in asking:
                ended = datetime.datetime.fromtimestamp(one.ended / 1000, datetime.timezone.utc)
                print(f"{one.device}: ended {ended:%Y-%m-%d %H:%M} UTC, asks from {one.address}, key {one.fingerprint[:16]}")
            if not asking:
                print("No box waits.")
            return 0
        found = [one for one in asking if one.device == wanted or (len(wanted) >= 8 and one.fingerprint.startswith(wanted))]
        if len(found) != 1:
            raise BadRequest(f"{wanted}: {len(found)} keys wait by this name: `visavis fleet renewals` lists them")
        name = renewal.decide(db, authority, found[0].fingerprint, "command line", now, approve=bool(approve))
        journal.audit(db, now, "command line", "renewal approved" if approve else "renewal refused", name)
    print(f"{name}: it gets its certificate when it asks again, within 20 minutes" if approve else f"{name}: it gets none")
    return 0


@app.command
def reader(
    name: str, *, data: Path | None = None, database: str = "", out: Path | None = None, days: int = 365, revoke: bool = False
) -> int:
    """Let a program read the projections at the fleet's own broker, e.g. a SCADA host or Home Assistant: a folder with its certificate.

    Parameters
    ----------
    name
        The program's name; its client id is then ~NAME.
    data
        The controller's folder.
    database
        Its PostgreSQL, if it has one.
    out
        Where the folder is made; by default ./NAME.
    days
        How long the certificate is valid.
    revoke
        Instead take back all its certificates.

    """
    from fleet import journal, readers
    from fleet.bundle import write_files
    from runtime.telemetry.times import SystemTimes

    now, folder = SystemTimes().wall_ms(), out or Path(name)
    with opened(data, database) as (db, authority):
        if revoke:
            count = readers.dismiss(db, name, now)
            journal.audit(db, now, "command line", "reader revoked", name, {"certificates": count})
            print(f"{name}: {count} certificate(s) revoked")
            return 0
        write_files({}, folder)  # says so, before a certificate is made
        issued = readers.admit(db, authority, name, days, now)
        journal.audit(db, now, "command line", "reader", name, {"serial": issued.serial})
        write_files({"ca.pem": authority.pem, f"{name}.pem": issued.certificate, f"{name}.key": issued.key}, folder)
    print(f"{folder}: authority, certificate and key for {name}; MQTT over TLS, client id ~{name}")
    return 0


@app.command
def password(name: str, *, data: Path | None = None, database: str = "") -> int:
    """Give a user of the console another password, e.g. an admin who forgot it; asked for at the terminal, or read from a pipe.

    Parameters
    ----------
    name
        The user.
    data
        The controller's folder.
    database
        Its PostgreSQL, if it has one.

    """
    import getpass
    import sys

    from fleet import accounts, journal
    from runtime.telemetry.times import SystemTimes

    given = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    with opened(data, database) as (db, _):
        accounts.change(db, name, password=given)
        journal.audit(db, SystemTimes().wall_ms(), "command line", "password", name)
    print(f"{name}: the password is changed, all sessions have ended")
    return 0


@app.command
def revoke(name: str, *, data: Path | None = None, database: str = "") -> int:
    """Take back all certificates of a box. A running controller ends its connection within seconds.

    Parameters
    ----------
    name
        The box.
    data
        The controller's folder.
    database
        Its PostgreSQL, if it has one.

    """
    from fleet import inventory, journal
    from runtime.telemetry.times import SystemTimes

    now = SystemTimes().wall_ms()
    with opened(data, database) as (db, _):
        count = inventory.revoke(db, name, now)
        journal.audit(db, now, "command line", "revoke", name, {"certificates": count})
    print(f"{name}: {count} certificate(s) revoked")
    return 0


@app.command
def simulate(*, devices: int, data: Path | None = None, database: str = "", broker: str = "", health_s: float = 10.0,
             minutes: float = 0.0, faults: str = "", seed: int = 1, tenant: str = "default", prefix: str = "sim",
             ledger: Path | None = None, every_s: float = 5.0) -> int:  # fmt: skip
    """Connect simulated boxes to a running controller, each with its own certificate and session, until the minutes are over or Ctrl-C.

    What every box kept, sent and was told is safe goes to the ledger. At the end nothing new is made and what waits is delivered; exit
    status 1 if something still waits after seven minutes.

    Parameters
    ----------
    devices
        How many.
    data
        The controller's folder: its authority signs their certificates, which are kept there in `simulated`.
    database
        Its PostgreSQL, if it has one.
    broker
        HOST or HOST:PORT of the broker; by default localhost:8883.
    health_s
        Seconds between two reports of a box.
    minutes
        How long; 0 until Ctrl-C.
    faults
        With commas between: flapping, offline (an outage, and hours of reports from before), skew (wrong clocks), storm (all at once).
    seed
        Chooses values, faults and moments.
    tenant
        As the controller was told.
    prefix
        The boxes are called PREFIX-00000 and so on.
    ledger
        File of the ledger; by default `simulated/ledger` in the controller's folder.
    every_s
        Seconds between two lines that say how it goes.

    """
    from visavis.simulate.command import simulate as begin

    with opened(data, database) as (db, authority):
        return begin(
            db, authority, folder_of(data) / "simulated", devices=devices, broker=broker, health_s=health_s, minutes=minutes, faults=faults,
            seed=seed, tenant=tenant, prefix=prefix, ledger=ledger, every_s=every_s,
        )  # fmt: skip


@app.command
def broker_files(
    *names: str, controller: tuple[str, ...], out: Path, at: Path | None = None, data: Path | None = None, port: int = 8883,
    user: str = "mosquitto", tenant: str = "default", days: int = 825,
) -> int:  # fmt: skip
    """Make the files of a mosquitto that runs elsewhere and serves several controllers: configuration, rights, certificate.

    Parameters
    ----------
    names
        Host names and addresses under which boxes and controllers reach it.
    controller
        Name of a controller, as each says with --controller. May be given several times.
    out
        Where the folder is made.
    at
        Where the folder will lie on the broker's machine; by default `out`.
    data
        The controller's folder.
    port
        Port of the broker.
    user
        Whom mosquitto runs as.
    tenant
        As the controllers are told.
    days
        How long the broker's certificate is valid.

    """
    from fleet.authority import Authority
    from fleet.broker import Place
    from fleet.bundle import write_files
    from fleet.outside import broker_files as files
    from runtime.telemetry.times import SystemTimes

    now, folder = SystemTimes().wall_ms(), (at or out).absolute()
    authority = Authority(folder_of(data) / "authority", now)
    if not authority.revoked.exists():
        authority.write_revoked((), now)
    place = Place(host="", port=port, folder=folder, ca=folder / "ca.pem", revoked=folder / "revoked.pem")
    write_files(files(authority, names=names, controllers=controller, place=place, user=user, tenant=tenant, days=days, now_ms=now), out)
    print(f"{out}: mosquitto -c {folder / 'mosquitto.conf'}; it has to read revoked.pem again whenever a controller has written it anew")
    return 0
