"""The wire format of Sparkplug: read back by ourselves and by an independent decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.projections.payload import Datatype, Malformed, Metric, Payload, decode, encode

pytestmark = pytest.mark.unit

VALUES = {
    Datatype.INT32: st.integers(-(2**31), 2**31 - 1),
    Datatype.INT64: st.integers(-(2**63), 2**63 - 1),
    Datatype.UINT64: st.integers(0, 2**64 - 1),
    Datatype.DOUBLE: st.floats(allow_nan=False),
    Datatype.BOOLEAN: st.booleans(),
    Datatype.STRING: st.text(max_size=50),
}
METRICS = st.sampled_from(list(VALUES)).flatmap(
    lambda kind: st.builds(
        Metric,
        name=st.text(max_size=30),
        alias=st.none() | st.integers(0, 2**64 - 1),
        ts=st.none() | st.integers(0, 2**53),
        datatype=st.just(int(kind)),
        historical=st.booleans(),
        value=st.none() | VALUES[kind],
    )
)
PAYLOADS = st.builds(
    Payload, ts=st.integers(0, 2**53), metrics=st.lists(METRICS, max_size=5).map(tuple), seq=st.none() | st.integers(0, 255)
)


@given(PAYLOADS)
def test_what_is_written_is_read(payload):
    """Every payload comes back as it was."""
    assert decode(encode(payload)) == payload


@given(st.binary(max_size=200))
def test_any_bytes_are_harmless(data):
    """Bytes of anybody are a payload or Malformed, and nothing else is raised."""
    try:
        decode(data)
    except Malformed:
        return


def test_without_datatypes_nothing_else_changes():
    """Only the datatype is left out."""
    metric = Metric(alias=7, ts=5, datatype=Datatype.DOUBLE, value=1.5)
    found = decode(encode(Payload(ts=9, metrics=(metric,), seq=3), datatypes=False))
    assert found == Payload(ts=9, metrics=(Metric(alias=7, ts=5, value=1.5),), seq=3)


def test_nothing_is_told_as_null():
    """A metric without a value says is_null (field 7) and has no value; one with a value has no such field."""
    assert encode(Payload(ts=0, metrics=(Metric(alias=1),))) == bytes.fromhex("0800 1204 1001 3801")
    assert encode(Payload(ts=0, metrics=(Metric(alias=1, datatype=Datatype.BOOLEAN, value=False),))) == bytes.fromhex(
        "0800 1206 1001 200b 7000"
    )


def test_an_independent_decoder_reads_the_same(decode):
    """Numbers of all sizes and signs, texts, truths, nulls, history, properties."""
    metrics = (
        Metric(name="a/b", alias=1, ts=1_700_000_000_123, datatype=Datatype.INT64, value=-5, properties={"engUnit": "ms", "x": "é"}),
        Metric(name="big", alias=300, ts=1, datatype=Datatype.INT64, value=2**40),
        Metric(name="small", ts=1, datatype=Datatype.INT32, value=-1),
        Metric(name="real", ts=1, datatype=Datatype.DOUBLE, value=-0.125),
        Metric(name="yes", ts=1, datatype=Datatype.BOOLEAN, value=True),
        Metric(name="no", ts=1, datatype=Datatype.BOOLEAN, value=False),
        Metric(name="text", ts=1, datatype=Datatype.STRING, value="über"),
        Metric(name="nothing", ts=1, datatype=Datatype.DOUBLE, historical=True),
    )
    found = decode(encode(Payload(ts=1_700_000_000_456, metrics=metrics, seq=255)))
    assert (found["timestamp"], found["seq"]) == (1_700_000_000_456, 255)
    by_name = {metric["name"]: metric for metric in found["metrics"]}
    assert {name: metric["value"] for name, metric in by_name.items()} == {
        "a/b": -5, "big": 2**40, "small": -1, "real": -0.125, "yes": True, "no": False, "text": "über", "nothing": None,
    }  # fmt: skip
    assert {name: metric["type"] for name, metric in by_name.items()} == {
        "a/b": "Int64", "big": "Int64", "small": "Int32", "real": "Double", "yes": "Boolean", "no": "Boolean", "text": "String",
        "nothing": "Double",
    }  # fmt: skip
    assert by_name["a/b"]["properties"] == {"engUnit": {"value": "ms", "type": "String"}, "x": {"value": "é", "type": "String"}}
    assert (by_name["a/b"]["alias"], by_name["a/b"]["timestamp"], by_name["big"]["alias"]) == (1, 1_700_000_000_123, 300)
    assert by_name["nothing"]["isHistorical"] is True
