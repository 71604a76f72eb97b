"""The wire contract: topics, envelopes, bodies, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.telemetry as t
from runtime.telemetry import catalogue, contract, schema

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden"


def wrapped(kind, body, **more):
    """An envelope of a box, as bytes."""
    given_ = {"dev": "box-1", "boot": "0123456789abcdef", "seq": 7, "ts": 1, "mono": 1, "clk": t.ClockState.SYNCED} | more
    return t.encode(t.Envelope(kind=kind, body=msgspec.Raw(t.encode(body)), **given_))


def test_the_exported_contract_is_current():
    """docs/contract is what the code says; `python -m runtime.telemetry.schema docs/contract` writes it."""
    for name, text in schema.documents().items():
        assert (ROOT / "docs" / "contract" / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("up-*.json")), ids=lambda path: path.stem)
def test_what_boxes_in_the_field_send_is_understood(path):
    """A message of a shipped box decodes, and is written again byte for byte."""
    payload = path.read_bytes().strip()
    envelope, body = t.decode_up(payload)
    assert f"up-{envelope.kind.value}" == path.stem
    assert t.encode(msgspec.structs.replace(envelope, body=msgspec.Raw(t.encode(body)))) == payload


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("down-*.json")), ids=lambda path: path.stem)
def test_what_controllers_in_the_field_send_is_understood(path):
    """A message of a shipped controller decodes, and is written again byte for byte."""
    payload = path.read_bytes().strip()
    envelope, body = t.decode_down(payload, t.DownKind(path.stem.removeprefix("down-")))
    assert t.encode(msgspec.structs.replace(envelope, body=msgspec.Raw(t.encode(body)))) == payload


def test_golden_files_cover_every_kind():
    """Each kind with a body has a golden file."""
    up = {f"up-{kind.value}.json" for kind in contract.UP_BODIES}
    down = {f"down-{kind.value}.json" for kind in contract.DOWN_BODIES}
    assert {path.name for path in GOLDEN.iterdir()} == up | down


@pytest.mark.parametrize("kind", [*t.UpKind, *t.DownKind])
def test_topics_come_apart_as_they_were_made(kind):
    """topic() and parse_topic() are inverse."""
    assert t.parse_topic(t.topic("acme", "box-1", kind)) == t.Topic("acme", "box-1", kind)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$SYS", "-x", "a\n", "x" * 64, "é", "a b"])
def test_names_that_would_change_the_topic_are_refused(name):
    """Tenants and devices cannot smuggle levels or wildcards into a topic."""
    with pytest.raises(ValueError, match="cannot name"):
        t.topic("acme", name, t.UpKind.HEALTH)


@given(st.text(max_size=80) | st.lists(st.sampled_from(["visavis", "1", "a", "up", "down", "health", "ack", "+", ""])).map("/".join))
def test_any_text_is_a_topic_or_malformed(text):
    """Nothing but Malformed comes out of a strange topic, and nothing strange out of a good one."""
    try:
        parts = t.parse_topic(text)
    except t.Malformed:
        return
    assert t.topic(parts.tenant, parts.device, parts.kind) == text


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_are_a_message_or_refused(payload):
    """Nothing but a ContractError comes out of strange bytes, in both directions."""
    for decode in (t.decode_up, *(lambda data, kind=kind: t.decode_down(data, kind) for kind in t.DownKind)):
        try:
            decode(payload)
        except t.ContractError:
            continue


@pytest.mark.parametrize(
    "payload", [b"[" * 60_000, b'{"v":1,"body":' + b"[" * 50_000, b'{"v":NaN}', b"\xff\xfe", b'{"v":1e999}', b"9" * 50_000, b""]
)
def test_bombs_are_refused(payload):
    """Deep nesting, endless numbers and no UTF-8 are Malformed, not a crash."""
    with pytest.raises(t.Malformed):
        t.decode_up(payload)
    with pytest.raises(t.Malformed):
        t.decode_down(payload, t.DownKind.COMMAND)


def test_size_is_checked_before_anything_is_read():
    """A payload over the limit is TooLarge."""
    with pytest.raises(t.TooLarge):
        t.decode_down(b" " * (t.MAX_DOWN + 1), t.DownKind.ACK)
    with pytest.raises(t.TooLarge):
        t.decode_up(b" " * (t.MAX_UP + 1))


def test_errors_do_not_repeat_what_they_read():
    """What came is not quoted in the error: it ends in logs."""
    with pytest.raises(t.Malformed) as caught:
        t.decode_down(b'{"v":1,"ts":1,"kind":"zanzibar","body":{}}', t.DownKind.COMMAND)
    assert "zanzibar" not in str(caught.value)


def test_a_body_belongs_to_its_topic():
    """An ack on the command topic is refused."""
    ack = t.encode(t.Down(ts=1, kind=t.DownKind.ACK, body=msgspec.Raw(b'{"acked":[]}')))
    assert t.decode_down(ack, t.DownKind.ACK)[1] == t.Ack(acked=())
    with pytest.raises(t.Malformed):
        t.decode_down(ack, t.DownKind.COMMAND)


def test_metrics_that_nobody_knows_are_left_out():
    """A newer box's metrics, and values of a wrong type or out of range, do not reach the controller."""
    sent = {
        "fps": 29.5,
        "node_cpu.voice": 3.0,
        "sentiment": 1,
        "turns": 1.5,
        "mic_live": 1,
        "session": "zanzibar",
        "node_cpu": 1,
        "fps.x": 1,
    }
    _, body = t.decode_up(wrapped(t.UpKind.HEALTH, t.Health(m=sent)))
    assert body.m == {"fps": 29.5, "node_cpu.voice": 3.0}


def test_every_row_of_the_catalogue_is_sound():
    """Names are unique and fit the wire; thresholds lie on the right side of each other and inside the range."""
    names = [row.name for row in t.METRICS]
    assert len(set(names)) == len(names)
    for row in t.METRICS:
        assert contract._ID.fullmatch(row.name)
        assert bool(row.values) == (row.type is t.Type.NAME)
        if row.warn is not None and row.bad is not None:
            assert (row.bad < row.warn) if row.falling else (row.bad > row.warn)
        for limit in (row.warn, row.bad):
            assert limit is None or row.low <= limit <= row.high
    assert len({row.code for row in t.EVENTS}) == len(t.EVENTS)
    assert len({row.name for row in t.COMMANDS}) == len(t.COMMANDS)


@pytest.mark.parametrize(
    ("name", "known"), [("fps", True), ("node_cpu.voice", True), ("node_cpu", False), ("fps.x", False), ("node_cpu.", False)]
)
def test_instances_are_only_where_they_belong(name, known):
    """A metric per node needs its node, one of the box has none."""
    assert (catalogue.metric(name) is not None) is known


def test_the_public_surface_is_what_it_says():
    """Everything in __all__ exists; the contract draws in nothing of the kiosk."""
    assert all(hasattr(t, name) for name in t.__all__)
