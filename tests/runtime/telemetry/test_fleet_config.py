"""`[fleet]` in kiosk.toml: defaults that send nothing, and mistakes told in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.config import Config, ConfigError, environment, load


def write(folder, text):
    path = folder / "kiosk.toml"
    path.write_text(f"[fleet]\n{text}")
    return path


def test_by_default_nothing_leaves_the_box():
    """Without a broker there is no uplink."""
    assert Config().fleet.broker == ""


@pytest.mark.parametrize(("text", "address"), [("fleet.example.org", ("fleet.example.org", 8883)), ("10.0.0.7:1883", ("10.0.0.7", 1883))])
def test_the_address(tmp_path, text, address):
    """A port may stand behind the host; 8883 is the default."""
    assert load(write(tmp_path, f'broker = "{text}"\ndevice = "box-1"')).fleet.address == address


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('broker = "mqtts://x"\ndevice = "a"', "fleet.broker: 'mqtts://x' is no HOST or HOST:PORT"),
        ('broker = "x:99999"\ndevice = "a"', "fleet.broker: 'x:99999' is no HOST"),
        ('broker = "x"', "fleet.device: is missing"),
        ('broker = "x"\ndevice = "a"\nkey = "k"', "fleet.certificate: is missing"),
        ('broker = "x"\ndevice = "a"\nca = "no.pem"', "fleet.ca: no such file"),
        ('device = "a/b"', "fleet.device: "),
        ("allow = ['all']", "fleet.allow"),
        ("attributes = { Site = 'x' }", "fleet.attributes"),
        ("health_s = 1", "fleet.health_s"),
    ],
)
def test_mistakes_are_told(tmp_path, text, line):
    """What, where, what to do."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert f"kiosk.toml: {line}" in str(caught.value)


def test_a_certificate_behind_a_closed_door_is_one_line(tmp_path, monkeypatch):
    """Who may not look into its folder is told so, without a traceback."""

    def closed(self):
        raise PermissionError(13, "Permission denied", str(self))

    path = write(tmp_path, 'broker = "x"\ndevice = "a"\nca = "ca.pem"')
    real = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda self: closed(self) if self.suffix == ".pem" else real(self))
    with pytest.raises(ConfigError, match=r"^kiosk\.toml: fleet\.ca: cannot be read: Permission denied \(.*ca\.pem\)$"):
        load(path)


def test_where_the_outbox_is():
    """The state directory of systemd, or the home's."""
    assert environment({"STATE_DIRECTORY": "/var/lib/visavis"}).state == Path("/var/lib/visavis")
    assert environment({"HOME": "/home/k"}).state == Path("/home/k/.local/state/visavis")
