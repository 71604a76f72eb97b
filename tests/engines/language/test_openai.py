"""The OpenAI-compatible engine against a real server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from engines.errors import EngineError
from engines.language import (
    ChatRequest,
    DialogueState,
    Done,
    Event,
    Message,
    Passage,
    SlotDeclaration,
    Surface,
    TextDelta,
    ToolCall,
    ToolDeclaration,
    select,
)
from engines.language.openai import OpenAIEngine
from tests.support.language_server import Handler, Server, calls, chunk, hangs, raw, says, status

pytestmark = pytest.mark.system

TOOL = ToolDeclaration(
    "orderDrink",
    "Order a drink.",
    (
        SlotDeclaration("coffeeDrink", "The drink.", (Surface(("latte",), "latte"), Surface(("mocha",), "mocha")), required=True),
        SlotDeclaration("size", "The size.", (Surface(("large",), "large"), Surface(("big",), "large"))),
    ),
)
REQUEST = ChatRequest("You are Robin.", (Message("user", "hello"),), (TOOL,))


def talk(*handlers: Handler, request: ChatRequest = REQUEST, timeout_s: float = 5.0, **options: Any) -> tuple[list[Event], Server]:
    """All events of one answer."""

    async def run() -> tuple[list[Event], Server]:
        server = Server(*handlers)
        async with server.running() as url:
            engine = OpenAIEngine(url, timeout_s=timeout_s, **options)
            try:
                return [event async for event in engine.stream(request)], server
            finally:
                await engine.aclose()

    return asyncio.run(run())


def test_text_streams_in_pieces_and_ends_with_its_reason() -> None:
    """Delta by delta."""
    events, _ = talk(says("Hello", " there."))
    assert events == [TextDelta("Hello"), TextDelta(" there."), Done("answer")]
    events, _ = talk(says("Hel", finish="length"))
    assert events[-1] == Done("length")
    events, _ = talk(says("No end mark", done=False))
    assert events[-1] == Done("answer")


def test_the_prefix_is_constant_and_facts_go_last() -> None:
    """System, history, question; passages and state behind the question."""
    request = ChatRequest(
        "You are Robin.",
        (Message("user", "hi"), Message("assistant", "Hello!"), Message("user", "where?")),
        (TOOL,),
        (Passage("q", "On the first floor.", 0.6),),
        DialogueState("orderDrink", {"coffeeDrink": "latte"}, "size"),
    )
    _, server = talk(says("x"), request=request, model="m", api_key="s3cret")
    body = server.bodies[0]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"] == "You are Robin."
    assert body["messages"][1]["content"] == "hi"
    assert "On the first floor." in body["messages"][3]["content"]
    assert "coffeeDrink: latte" in body["messages"][3]["content"]
    assert body["stream"] is True
    assert body["model"] == "m"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert body["tools"][0]["function"]["parameters"]["properties"]["size"]["enum"] == ["large"]


def test_the_longest_answer_is_what_was_set() -> None:
    """The server is told how many tokens an answer may have, also by an engine that `select` made."""
    _, server = talk(says("x"), max_tokens=48)
    assert server.bodies[0]["max_tokens"] == 48
    chosen = select("openai", "http://x/v1", max_tokens=77).engine
    assert isinstance(chosen, OpenAIEngine)
    assert chosen._body(REQUEST)["max_tokens"] == 77


def test_a_share_of_the_longest_answer_leaves_room_for_a_tool_call() -> None:
    """Shorter where less is allowed, never longer than what was set, nor so short that a call would be cut off; briefness is asked for."""
    for share, most, tokens in ((1.0, 160, 160), (0.6, 160, 96), (0.3, 160, 80), (0.3, 400, 120), (0.3, 48, 48)):
        _, server = talk(says("x"), request=msgspec.structs.replace(REQUEST, share=share), max_tokens=most)
        assert server.bodies[0]["max_tokens"] == tokens
        assert server.bodies[0]["messages"][-1]["content"].startswith("hello")
        assert server.bodies[0]["messages"][-1]["content"].endswith("(Answer in one short sentence.)") is (share < 1)


def test_a_tool_call_split_over_chunks_becomes_one_call() -> None:
    """Arguments come in any pieces; only declared slots and values pass."""
    events, _ = talk(calls("orderDrink", '{"coffee', 'Drink": "latte", "si', 'ze": "BIG", "straw": "yes"', "}"))
    assert events == [ToolCall("orderDrink", ({"coffeeDrink": "latte", "size": "large"},), fresh=True), Done("tool")]
    events, _ = talk(calls("orderDrink", '{"coffeeDrink": "lasagne"}'))
    assert events[0] == ToolCall("orderDrink", ({},), fresh=True)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (raw(b"data: {not json\n\n"), "sent what is no chat completion chunk"),
        (raw(b'data: {"choices": 7}\n\n'), "sent what is no chat completion chunk"),
        (raw(b'data: {"error": {"message": "no", "code": "out_of_memory"}}\n\n'), "reported an error (out_of_memory)"),
        (status(400, "bad\nrequest"), "refused: HTTP 400"),
        (status(404, '{"error": {"type": "api_error", "message": "no model x"}}'), "HTTP 404 (api_error) (check language.base_url and"),
        (status(401), "check language.api_key_env"),
        (calls("launchMissiles", "{}"), "called a tool that does not exist"),
        (calls("orderDrink", '{"coffeeDrink": '), "arguments that are no JSON"),
        (calls("orderDrink", "[1]"), "instead of named arguments"),
    ],
)
def test_a_server_that_misbehaves_is_one_clear_line(handler: Handler, words: str) -> None:
    """What happened, and where."""
    with pytest.raises(EngineError) as caught:
        talk(handler)
    assert words in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "handler",
    [
        status(400, '{"error": {"message": "cannot parse: my name is Zappa", "type": "Zappa, of all", "code": 400}}'),
        status(500, "upstream said Zappa"),
        raw(b'data: {"error": {"message": "too long: Zappa"}}\n\n'),
        raw(b'data: {"choices": "Zappa"}\n\n'),
        calls("orderDrink", '{"coffeeDrink": "Zappa'),
        calls("orderZappa!", "{}"),
    ],
)
def test_an_error_quotes_nothing_that_a_visitor_may_have_said(handler: Handler) -> None:
    """It is logged and shown; a server may put the request or the model's words into it."""
    with pytest.raises(EngineError) as caught:
        talk(handler, handler)
    assert "Zappa" not in str(caught.value)


def test_a_refused_request_is_tried_once_more() -> None:
    """While nothing of the answer came."""
    events, server = talk(status(500, "busy"), says("Hello."))
    assert events[0] == TextDelta("Hello.")
    assert len(server.bodies) == 2
    with pytest.raises(EngineError, match="HTTP 503"):
        talk(status(503))


def test_an_answer_that_breaks_off_is_not_begun_again() -> None:
    """The visitor heard the beginning already."""
    broken = raw(chunk({"content": "The store is"}))
    got: list[Event] = []

    async def run(server: Server) -> None:
        async with server.running() as url:
            engine = OpenAIEngine(url)
            try:
                async for event in engine.stream(REQUEST):
                    got.append(event)  # noqa: PERF401  one by one: what came before the error counts
            finally:
                await engine.aclose()

    server = Server(broken)
    with pytest.raises(EngineError, match="ended in the middle"):
        asyncio.run(run(server))
    assert got == [TextDelta("The store is")]
    assert len(server.bodies) == 1


def test_a_silent_server_ends_in_a_timeout() -> None:
    """Before the first word and between words."""
    with pytest.raises(EngineError, match=r"did not answer within 0\.2 s"):
        talk(hangs(), timeout_s=0.2)
    with pytest.raises(EngineError, match=r"did not answer within 0\.2 s"):
        talk(hangs("Hello"), timeout_s=0.2)


def test_who_was_silent_is_not_asked_again() -> None:
    """Somebody waits: a second silence would be as long as the first."""
    server = Server(hangs())

    async def run() -> None:
        async with server.running() as url:
            engine = OpenAIEngine(url, timeout_s=0.2)
            try:
                async for _ in engine.stream(REQUEST):
                    pass
            finally:
                await engine.aclose()

    with pytest.raises(EngineError, match="did not answer"):
        asyncio.run(run())
    assert len(server.bodies) == 1


def test_nobody_listening_is_one_clear_line() -> None:
    """No server at the address."""

    async def run() -> None:
        engine = OpenAIEngine("http://127.0.0.1:9/v1", timeout_s=1)
        try:
            async for _ in engine.stream(REQUEST):
                pass
        finally:
            await engine.aclose()

    with pytest.raises(EngineError, match="cannot be reached"):
        asyncio.run(run())


def _cancelled(stop: Callable[[OpenAIEngine, asyncio.Event], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server(hangs("Hello", " there"))
        async with server.running() as url:
            engine = OpenAIEngine(url, timeout_s=30)
            try:
                await stop(engine, server.gone)
                await asyncio.wait_for(server.gone.wait(), 10)
            finally:
                await engine.aclose()

    asyncio.run(run())


def test_closing_the_iterator_ends_the_request_at_once() -> None:
    """The server sees the client go in the middle of the stream."""

    async def stop(engine: OpenAIEngine, _: asyncio.Event) -> None:
        async with aclosing(engine.stream(REQUEST)) as events:
            assert await anext(events) == TextDelta("Hello")

    _cancelled(stop)


def test_cancelling_the_reading_task_ends_the_request_at_once() -> None:
    """Also while it waits for the next word."""

    async def stop(engine: OpenAIEngine, _: asyncio.Event) -> None:
        began = asyncio.Event()

        async def read() -> None:
            async for _event in engine.stream(REQUEST):
                began.set()

        task = asyncio.create_task(read())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    _cancelled(stop)


def test_select_says_why() -> None:
    """Grounded without a server, the server where one is configured."""
    assert select().engine.name == "grounded"
    assert "language.base_url" in select().reasons[0]
    assert select("grounded", "http://x/v1").engine.name == "grounded"
    assert select("auto", "http://x/v1").engine.name == "openai"
