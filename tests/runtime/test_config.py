"""kiosk.toml: defaults, strictness, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.config import HOST, Config, ConfigError, environment, load, secret

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


def _write(folder: Path, text: str) -> Path:
    path = folder / "kiosk.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_serve() -> None:
    """No kiosk.toml: the shipped pack, loopback, 30 frames a second."""
    config = load(None)
    assert config == Config()
    assert HOST == "127.0.0.1"
    assert config.video.fps == 30
    assert config.video.audio_lead_ms == 80
    assert (config.pack_path / "pack.toml").is_file()


def test_the_shipped_example_is_valid_and_says_the_defaults() -> None:
    """Every commented-out line of kiosk/kiosk.toml is a real key with its default value."""
    example = ROOT / "kiosk" / "kiosk.toml"
    assert load(example) == Config()


def test_the_example_with_every_line_switched_on_names_only_real_keys(tmp_path: Path) -> None:
    """Removing the comment marks leaves a file whose keys are all known."""
    lines = (ROOT / "kiosk" / "kiosk.toml").read_text(encoding="utf-8").splitlines()
    on = [line.removeprefix("# ") for line in lines if line.startswith("# [") or ("=" in line and line.startswith("# "))]
    with pytest.raises(ConfigError) as caught:  # its files do not exist here
        load(_write(tmp_path, "\n".join(on)))
    assert "unknown key" not in str(caught.value)


def test_all_mistakes_are_told_at_once_with_file_and_key(tmp_path: Path) -> None:
    """One line per mistake, with a suggestion where a known key is near."""
    path = _write(tmp_path, '[stage]\nprot = 1\n[voice]\nengine = "flite"\nrate = "fast"\n[turn]\nmin_wait_ms = -3\n[nonsense]\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "kiosk.toml: stage.prot: unknown key (did you mean port?)"
    assert [line.split(": ")[1] for line in lines] == ["stage.prot", "voice.engine", "voice.rate", "turn.min_wait_ms", "nonsense"]


def test_what_no_single_field_can_know_is_checked(tmp_path: Path) -> None:
    """Waits that contradict each other, a missing server, one that may be silent for too long, missing files."""
    path = _write(
        tmp_path,
        'pack_path = "nowhere"\n[turn]\nmin_wait_ms = 900\nmax_wait_ms = 300\n'
        '[language]\nengine = "openai"\ntimeout_s = 6\n[recognition]\nmodel = "gone"\n',
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert keys == ["turn.min_wait_ms", "pack_path", "language.base_url", "language.timeout_s", "recognition.model"]


@pytest.mark.parametrize("text", ["[stage", "port = = 3", 'a = "\\q"'])
def test_no_toml_is_one_clear_line(tmp_path: Path, text: str) -> None:
    """A syntax error names the file and the place."""
    with pytest.raises(ConfigError, match=r"^kiosk\.toml: is no valid TOML: .+"):
        load(_write(tmp_path, text))


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(ConfigError, match=r"kiosk\.toml: no such file"):
        load(tmp_path / "kiosk.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A pack beside kiosk.toml is found from anywhere."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pack.toml").touch()
    assert load(_write(tmp_path, 'pack_path = "mine"')).pack_path == tmp_path / "mine"


def test_the_environment_is_read_from_what_is_passed() -> None:
    """Variables and their defaults."""
    env = environment({"HOME": "/home/k", "VISAVIS_MODELS": "/mnt/usb", "VISAVIS_CONFIG": ""})
    assert env.models == "/mnt/usb"
    assert environment({"VISAVIS_MODELS": "http://mirror/visavis"}).models == "http://mirror/visavis"
    assert env.config is None
    assert env.cache == Path("/home/k/.cache/visavis")
    assert environment({"VISAVIS_CACHE": "/c"}).cache == Path("/c")
    assert environment({"VISAVIS_SHARED": "/s"}).shared == Path("/s")


def test_secrets_come_from_the_named_variable_only() -> None:
    """No name, no secret."""
    assert secret("KEY", {"KEY": "s3"}) == "s3"
    assert secret("OTHER", {"KEY": "s3"}) == ""
    assert secret("", {"": "x"}) == ""
