"""Any server with the OpenAI chat API (llama.cpp's, vLLM's, a cloud's): streamed, cancellable, with tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import msgspec

from engines.errors import EngineError
from engines.language._types import ChatRequest, Done, Event, TextDelta, ToolCall

__all__ = ["OpenAIEngine"]

_CONNECT_S = 2.0
_ATTEMPTS = 2
_RETRY_STATUS = frozenset((429, 500, 502, 503, 504))
_LINE_MOST = 1_000_000
_LEAST_TOKENS = 80
"""However short an answer is to be: a tool call with all of its slots has some sixty, and half of one is an error."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_BRIEF = "(Answer in one short sentence.)"


class _FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolDelta(msgspec.Struct):
    index: int = 0
    function: _FunctionDelta = msgspec.field(default_factory=_FunctionDelta)


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


class _Refusal(msgspec.Struct):
    error: Any = None


def _kind(error: object) -> str:
    """What a server's error calls itself, in brackets. Not its message: that may quote the request or the model, and so a visitor, and
    errors are logged and shown.
    """
    fields = error if isinstance(error, dict) else {}
    names = [str(fields[name]) for name in ("type", "code") if fields.get(name) is not None]
    known = [name for name in names if _NAME.fullmatch(name)]
    return f" ({', '.join(known)})" if known else ""


class OpenAIEngine:
    """One server. `timeout_s` is the longest silence from the server, before the first word and between words; an answer has at most
    `max_tokens` (text that is cut off ends with Done("length"), a tool call that is cut off is an EngineError).

    All errors are EngineErrors with one line that names the server. A request is tried again only while nothing of the answer came, and
    not after a silence: somebody waits, and whoever was silent once will be again.
    """

    name = "openai"

    def __init__(
        self,
        base_url: str,
        model: str = "",
        api_key: str = "",
        timeout_s: float = 5.0,
        temperature: float = 0.3,
        *,
        max_tokens: int = 160,
    ) -> None:
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        self._timeout_s = timeout_s
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._client: httpx.AsyncClient | None = None

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Events of the answer as they come; raises EngineError. Closing the iterator closes the connection at once."""
        for attempt in range(1, _ATTEMPTS + 1):
            began = False
            try:
                async with aclosing(self._attempt(request)) as events:
                    async for event in events:
                        began = True
                        yield event
            except _RetryableError as error:
                if began or attempt == _ATTEMPTS:
                    raise EngineError(str(error)) from error
            else:
                return

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _attempt(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout, headers=self._headers)
        try:
            async with self._client.stream("POST", self._url, json=self._body(request)) as response:
                if response.status_code != httpx.codes.OK:
                    await self._refused(response)
                async with aclosing(self._events(response, _Reader(request))) as events:
                    async for event in events:
                        yield event
        except httpx.ConnectTimeout as error:
            within = f"no connection within {self._timeout.connect:g} s"
            raise _RetryableError(f"language model at {self._url} cannot be reached: {within}") from error
        except httpx.TimeoutException as error:
            raise EngineError(f"language model at {self._url} did not answer within {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise _RetryableError(f"language model at {self._url} cannot be reached: {what}") from error
        except _ChunkError as error:
            raise EngineError(f"language model at {self._url} {error}") from error

    async def _events(self, response: httpx.Response, reader: _Reader) -> AsyncGenerator[Event, None]:
        async for line in response.aiter_lines():
            if len(line) > _LINE_MOST:
                raise _ChunkError(f"sent a line of {len(line)} characters")
            for event in reader.line(line):
                yield event
            if reader.done:
                return
        if not reader.ended:
            raise _RetryableError(f"language model at {self._url} ended in the middle of an answer")
        for event in reader.end():
            yield event

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as JSON. Facts and state go into the last message, so that everything before it stays a cached prefix."""
        messages = [{"role": "system", "content": request.system}]
        messages += [{"role": message.role, "content": message.content} for message in request.messages]
        hints = [f"- {passage.answer}" for passage in request.passages]
        if hints:
            messages[-1]["content"] += "\n\nFacts that may help:\n" + "\n".join(hints)
        if request.state.tool:
            known = ", ".join(f"{name}: {value}" for name, value in request.state.slots.items() if value)
            asked = f" You just asked for {request.state.expects}." if request.state.expects else ""
            messages[-1]["content"] += f"\n\n({request.state.tool} is under way: {known or 'nothing known yet'}.{asked})"
        if request.share < 1:
            messages[-1]["content"] += f"\n\n{_BRIEF}"
        body: dict[str, Any] = {
            "messages": messages,
            "stream": True,
            "max_tokens": min(self._max_tokens, max(_LEAST_TOKENS, round(self._max_tokens * request.share))),
            "temperature": self._temperature,
            "cache_prompt": True,  # llama.cpp: keep the prefix; other servers ignore it
        }
        if self._model:
            body["model"] = self._model
        if request.tools:
            body["tools"] = [tool.schema() for tool in request.tools]
        return body

    async def _refused(self, response: httpx.Response) -> None:
        try:
            kind = _kind(msgspec.json.decode(await response.aread(), type=_Refusal).error)
        except (msgspec.DecodeError, msgspec.ValidationError):
            kind = ""
        message = f"language model at {self._url} refused: HTTP {response.status_code}{kind}"
        if response.status_code in _RETRY_STATUS:
            raise _RetryableError(message)
        if response.status_code in (401, 403):
            message += " (check language.api_key_env)"
        elif response.status_code == httpx.codes.NOT_FOUND:
            message += " (check language.base_url and language.model)"
        raise EngineError(message)


class _RetryableError(Exception):
    """Worth another attempt while nothing of the answer came."""


class _ChunkError(Exception):
    """The server does not speak the protocol."""


class _Reader:
    """Server-sent events into our events; collects tool calls, which come in pieces."""

    def __init__(self, request: ChatRequest) -> None:
        self._tools = {tool.name: tool for tool in request.tools}
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._reason = ""
        self.done = False  # nothing more will be read

    @property
    def ended(self) -> bool:
        """Whether the server said that the answer is whole."""
        return self.done or bool(self._reason)

    def line(self, line: str) -> list[Event]:
        """The events of one line of the stream. Raises _ChunkError."""
        if not line.startswith("data:"):
            return []
        data = line[5:].strip()
        if data == "[DONE]":
            return [*self.end()] if not self.done else []
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise _ChunkError(f"sent what is no chat completion chunk: {error}") from error
        if chunk.error:
            raise _ChunkError(f"reported an error{_kind(chunk.error)}")
        events: list[Event] = []
        for choice in chunk.choices[:1]:
            for piece in choice.delta.tool_calls or ():
                self._names[piece.index] = self._names.get(piece.index, "") + (piece.function.name or "")
                self._arguments[piece.index] = self._arguments.get(piece.index, "") + (piece.function.arguments or "")
            if choice.delta.content:
                events.append(TextDelta(choice.delta.content))
            self._reason = choice.finish_reason or self._reason
        return events

    def end(self) -> list[Event]:
        """What is known only at the end: whole tool calls, and why it ended."""
        if self.done:
            return []
        self.done = True
        calls: list[Event] = [self._call(self._names[index], self._arguments.get(index, "")) for index in sorted(self._names)]
        reason = "tool" if calls else {"length": "length", "stop": "answer"}.get(self._reason, self._reason or "answer")
        return [*calls, Done(reason)]

    def _call(self, name: str, arguments: str) -> ToolCall:
        tool = self._tools.get(name)
        if tool is None:
            raise _ChunkError("called a tool that does not exist")
        try:
            given = json.loads(arguments or "{}")
        except json.JSONDecodeError as error:
            raise _ChunkError(f"called {name} with arguments that are no JSON: {error}") from error
        if not isinstance(given, dict):
            raise _ChunkError(f"called {name} with {type(given).__name__} instead of named arguments")
        # What the declaration does not know is left out: the dialogue then asks for it.
        slots = {}
        for slot in tool.slots:
            value = str(given.get(slot.name, "")).strip().lower()
            known = {surface.value.lower(): surface.value for surface in slot.surfaces} | {
                " ".join(surface.words): surface.value for surface in slot.surfaces
            }
            if value in known:
                slots[slot.name] = known[value]
        return ToolCall(name, (slots,), fresh=True)
