"""Which pack a kiosk starts with: the one that the fleet chose, or kiosk.toml's."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.config import Config, load
from runtime.packchoice import Choice, fleet_folder, installed, keep_choice, kept_choice, serving
from runtime.packs import PackError

COFFEE = Config().pack_path
FLEET = '[fleet]\nbroker = "fleet.example.org"\ndevice = "box-1"\noutbox_path = "fleet"\n'


@pytest.fixture
def config(tmp_path):
    """A kiosk.toml beside a folder with two packs, and one with a third."""
    for name in ("packs/coffee-bar", "packs/tea-bar", "more/juice-bar", "more/tea-bar"):
        shutil.copytree(COFFEE, tmp_path / name)
    (tmp_path / "kiosk.toml").write_text(f'pack_path = "packs/coffee-bar"\npacks_path = "more"\n{FLEET}')
    return load(tmp_path / "kiosk.toml")


def test_installed_are_those_beside_kiosk_tomls_own_and_in_packs_path(config, tmp_path):
    """The first folder of a name counts; what is no pack, or has no name that the fleet may use, is none."""
    (tmp_path / "packs" / "Upper").mkdir()
    (tmp_path / "packs" / "Upper" / "pack.toml").touch()
    (tmp_path / "packs" / "empty").mkdir()
    (tmp_path / "packs" / "README").touch()
    packs = tmp_path / "packs"
    assert installed(config) == {
        "coffee-bar": packs / "coffee-bar",
        "tea-bar": packs / "tea-bar",
        "juice-bar": tmp_path / "more" / "juice-bar",
    }


def test_the_choice_survives(config, tmp_path):
    """Kept in one step beside the outbox; taken back, kiosk.toml decides again."""
    assert serving(config) == (tmp_path / "packs" / "coffee-bar", "")
    keep_choice(config, Choice("juice-bar", "command"))
    assert kept_choice(config) == Choice("juice-bar", "command")
    assert serving(config) == (tmp_path / "more" / "juice-bar", "")
    assert [path.name for path in fleet_folder(config).iterdir()] == ["pack.json"]
    keep_choice(config, None)
    keep_choice(config, None)
    assert serving(config) == (tmp_path / "packs" / "coffee-bar", "")


def test_a_box_without_a_fleet_has_no_choice(config, tmp_path):
    """Whoever takes the box out of the fleet has his kiosk.toml back."""
    keep_choice(config, Choice("tea-bar", "setting"))
    alone = tmp_path / "alone.toml"
    alone.write_text('pack_path = "packs/coffee-bar"\n[fleet]\noutbox_path = "fleet"\n')
    assert serving(load(alone)) == (tmp_path / "packs" / "coffee-bar", "")


@pytest.mark.parametrize("kept", [b"", b"{torn", b'{"pack": 5}', b'{"pack": "tea-bar"}', b'{"pack": "tea-bar", "by": "me"}', b"\xff\xfe"])
def test_a_damaged_choice_falls_back(config, tmp_path, kept):
    """One line, and kiosk.toml's pack."""
    fleet_folder(config).mkdir()
    (fleet_folder(config) / "pack.json").write_bytes(kept)
    line = "the fleet's choice of a pack cannot be read (damaged): coffee-bar of kiosk.toml serves"
    assert serving(config) == (tmp_path / "packs" / "coffee-bar", line)
    assert kept_choice(config) is None


def test_a_choice_that_cannot_be_opened_falls_back(config):
    """Another user's, or a disk that fails."""
    (fleet_folder(config) / "pack.json").mkdir(parents=True)
    assert serving(config)[1] == "the fleet's choice of a pack cannot be read (Is a directory): coffee-bar of kiosk.toml serves"


def test_a_chosen_pack_that_has_gone_or_broken_falls_back(config, tmp_path):
    """One line that says which it is, with the checker's own words."""
    keep_choice(config, Choice("tea-bar", "command"))
    (tmp_path / "packs" / "tea-bar" / "pack.toml").write_text('name = "Tea"\n')
    path, why = serving(config)
    assert path == tmp_path / "packs" / "coffee-bar"
    assert why.startswith("the fleet chose pack tea-bar, which is broken (pack.toml: ")
    assert " more)): coffee-bar of kiosk.toml serves" in why
    assert "\n" not in why
    shutil.rmtree(tmp_path / "packs" / "tea-bar")
    shutil.rmtree(tmp_path / "more" / "tea-bar")
    assert serving(config)[1] == "the fleet chose pack tea-bar, which is not installed: coffee-bar of kiosk.toml serves"


def test_a_chosen_pack_serves_although_kiosk_tomls_is_broken(config, tmp_path):
    """Only what has to serve has to be whole."""
    (tmp_path / "packs" / "coffee-bar" / "tools.toml").write_text("[")
    with pytest.raises(PackError):
        serving(config)
    keep_choice(config, Choice("tea-bar", "setting"))
    assert serving(config) == (tmp_path / "packs" / "tea-bar", "")


@given(st.text(max_size=12))
@settings(max_examples=50)
def test_no_name_leads_out_of_the_folders(tmp_path_factory, name):
    """Whatever is kept as a name, only a plain folder of the two places is taken."""
    top = tmp_path_factory.mktemp("box")
    (top / "packs" / "own").mkdir(parents=True)
    for folder in ("packs/own", ".", ".."):
        os.close(os.open(top / folder / "pack.toml", os.O_CREAT | os.O_WRONLY))
    found = installed(Config(pack_path=top / "packs" / "own"))
    assert set(found) == {"own"}
    assert found.get(name) in (None, top / "packs" / "own")


def test_a_full_disk_keeps_the_old_choice(config):
    """What cannot be written leaves what was there."""
    keep_choice(config, Choice("tea-bar", "command"))
    (fleet_folder(config) / ".pack.json.new").mkdir()
    with pytest.raises(IsADirectoryError):
        keep_choice(config, Choice("juice-bar", "command"))
    assert kept_choice(config) == Choice("tea-bar", "command")
