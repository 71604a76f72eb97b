"""The model store: what is here, what is not, and what is broken."""

from __future__ import annotations

import hashlib

import pytest

from engines.errors import ModelError
from engines.models import Model, cache_dir, find, locate, manifest, sha256_of, state_of


def test_the_manifest_is_whole():
    """Every row has a licence, a source and a fallback; the two small networks are fetched at install."""
    models = manifest()
    assert {model.name for model in models if model.default} == {"silero-vad", "smart-turn"}
    for model in models:
        assert model.licence
        assert model.without
        assert model.url.startswith("https://") or model.wheel


ROW = "[[model]]\nname='x'\nversion='1'\nlicence='MIT'\nsize=1\nwithout='y'\n"
DIGEST = f"sha256='{'0' * 64}'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[model]", "models.toml"),
        ("[[model]]\nname = 'x'", "missing"),
        (ROW + "sha256='00'\ntarget='x'\nurl='https://z'", "sha256"),
        (ROW + DIGEST + "target='../x'\nurl='z'", "target"),
        (ROW + DIGEST + "target='x'", "wheel or url"),
        (ROW + DIGEST + "target='x'\nurl='z'\nneeds=['q']", "q"),
        (ROW + DIGEST + "target='x'\nurl='z'\ncolour='red'", "colour"),
    ],
)
def test_a_wrong_manifest_gets_one_line(tmp_path, text, said):
    """A mistake in the manifest is told in one line that names the file and the field."""
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        manifest(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_answered_with_the_known():
    """Asking for a model that does not exist lists those that do."""
    with pytest.raises(ModelError, match="silero-vad"):
        find("silero")


def small(**more) -> Model:
    body = b"weights"
    defaults = {"name": "m", "version": "1", "licence": "MIT", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return Model(**{**defaults, "target": "m.bin", "without": "something simpler serves", "url": "https://x/m.bin", **more})


def test_states(tmp_path):
    """Missing, whole, too short, and as long but different are told apart."""
    model = small()
    path = tmp_path / "m.bin"
    assert state_of(model, tmp_path).status == "missing"
    path.write_bytes(b"weights")
    assert state_of(model, tmp_path).status == "ok"
    assert sha256_of(path) == model.sha256
    path.write_bytes(b"weight")
    assert state_of(model, tmp_path).detail == "6 bytes instead of 7"
    path.write_bytes(b"Weights")
    assert "checksum" in state_of(model, tmp_path).detail


def test_an_unpacked_model_is_known_by_its_seal(tmp_path):
    """A folder counts only with the digest of the archive it came from."""
    model = small(unpack="m")
    (tmp_path / "m").mkdir()
    assert state_of(model, tmp_path).status == "missing"
    (tmp_path / "m.sha256").write_text(model.sha256)
    assert state_of(model, tmp_path).status == "ok"
    (tmp_path / "m.sha256").write_text("0" * 64)
    assert state_of(model, tmp_path).status == "corrupt"


def test_locate_says_what_to_do(tmp_path):
    """A model that is not here, or damaged, is named with its path, the command that fetches it and what serves meanwhile."""
    with pytest.raises(ModelError, match=r"silero-vad is not here.*visavis models fetch silero-vad`; until then"):
        locate("silero-vad", tmp_path)
    (tmp_path / "silero_vad.onnx").write_bytes(b"scrap")
    with pytest.raises(ModelError, match=r"is damaged \(5 bytes instead of 2327524\).*fetch silero-vad"):
        locate("silero-vad", tmp_path)


def test_the_store_is_where_the_config_says(monkeypatch, tmp_path):
    """engines.models and runtime.config agree on the folder, whichever variable is set."""
    from runtime.config import environment

    for name, value in (("HOME", tmp_path), ("XDG_CACHE_HOME", tmp_path / "xdg"), ("VISAVIS_CACHE", tmp_path / "own")):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False) if name == "HOME" else None
        monkeypatch.delenv("VISAVIS_CACHE", raising=False) if name == "HOME" else None
        monkeypatch.setenv(name, str(value))
        assert cache_dir() == environment().cache / "models"
