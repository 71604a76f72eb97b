"""Whatever goes wrong, the kiosk goes on, and a person reads why. Real processes, real sockets; the page without a browser."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from runtime import messages as m
from runtime.supervisor import OWN_NODES
from tests.support.running import LIMIT_S, ROOT, Kiosk, kiosk_env
from visavis._processes import tree

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LONG = "What departments are there?"
"""Its answer is long enough to die in the middle of it."""
CARD = "Do you have a loyalty card?"
NEXT = "How can I pay?"
FAST = "[voice]\nrate = 1.6\n"
"""Spoken faster: the tests wait for whole answers."""


@pytest.fixture(scope="module")
def kiosk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiosk]:
    """One kiosk for all who die."""
    with Kiosk(tmp_path_factory.mktemp("kiosk"), FAST) as running:
        yield running


def answer_of(kiosk: Kiosk, turn: int, since: int) -> list[str]:
    """The words of the whole answer of `turn`, as the dialogue gave it."""
    replies = [reply for reply in kiosk.seen.all("bus reply", since) if reply.turn == turn]
    assert replies, "no answer was given"
    assert replies[-1].last, "the answer is not complete"
    return [word for reply in replies for word in reply.text.split()]


def shown(kiosk: Kiosk, since: int) -> list[list[str]]:
    """The captions the page has shown, turn by turn."""
    says = kiosk.seen.all("page say", since)
    return [[word for say in group for word, _ in say["words"]] for _, group in groupby(says, key=lambda say: say["turn"])]


def others_that_fell(kiosk: Kiosk, name: str, since: int) -> list[m.NodeEvent]:
    """Nodes that went down although nobody touched them."""
    events = kiosk.seen.all("bus nodes", since)
    fell = (m.NodeState.DOWN, m.NodeState.GIVEN_UP)
    return [event for event in events if event.state in fell and event.node != name and not event.again]


@pytest.mark.parametrize("name", [node.name for node in OWN_NODES])
def test_a_node_dies_in_the_middle_of_an_answer(kiosk: Kiosk, name: str) -> None:
    """Each node in turn: the face goes on, the answer is heard to its end, the next question is answered, no other node falls."""
    asked = kiosk.seen.mark()
    turn = kiosk.ask(LONG)
    killed = kiosk.seen.mark()
    kiosk.kill(name)
    kiosk.back(name, killed)
    back = kiosk.seen.mark()
    if name not in ("renderer", "stage"):
        assert kiosk.seen.all("bus video", killed), f"no frame was drawn while {name} was away"
    heard = kiosk.finished(killed)
    assert heard.turn >= turn
    assert heard.text.split()[-3:] == answer_of(kiosk, turn, asked)[-3:], "the end of the answer was not heard"
    whole = " ".join(answer_of(kiosk, turn, asked))
    for caption in shown(kiosk, killed):
        assert " ".join(caption) in whole, "the page shows something that is not of the answer"
    kiosk.seen.wait("page frame", since=back, why=f"the face moves after {name} died")
    rest = kiosk.seen.wait(
        "page floor", lambda floor: floor["posture"] == "attentive", since=killed, why=f"the kiosk is at rest after {name} died"
    )
    assert rest["turn"] >= turn
    asked = kiosk.seen.mark()
    assert kiosk.ask(NEXT) > turn
    assert "cash" in kiosk.finished(asked).text
    assert others_that_fell(kiosk, name, killed) == []


@pytest.mark.parametrize("name", ["dialogue", "voice"])
def test_a_question_while_its_node_is_away(kiosk: Kiosk, name: str) -> None:
    """Asked while nobody can think or speak: answered as soon as the node is back, without asking again."""
    since = kiosk.seen.mark()
    kiosk.kill(name)
    kiosk.page.type(NEXT)
    kiosk.back(name, since)
    assert "cash" in kiosk.finished(since).text
    assert others_that_fell(kiosk, name, since) == []


def test_a_question_while_the_conductor_is_away(kiosk: Kiosk) -> None:
    """What a visitor types or touches meanwhile is not lost."""
    since = kiosk.seen.mark()
    kiosk.kill("conductor")
    kiosk.seen.wait("bus nodes", lambda event: event.node == "conductor" and event.state is m.NodeState.DOWN, since=since)
    kiosk.seen.wait("page frame", since=kiosk.seen.mark())  # the stage has heard of it too
    kiosk.page.type(NEXT)
    kiosk.back("conductor", since)
    assert "cash" in kiosk.finished(since).text


def test_an_order_survives_the_dialogue(kiosk: Kiosk) -> None:
    """In the middle of an order the dialogue dies: the visitor goes on where they were."""
    since = kiosk.seen.mark()
    kiosk.ask("A latte please.")
    kiosk.finished(since)
    since = kiosk.seen.mark()
    kiosk.kill("dialogue")
    kiosk.back("dialogue", since)
    kiosk.ask("A large one.")
    kiosk.finished(since)
    card = kiosk.seen.all("page reply", since)[-1]["card"]
    assert "latte" in card
    assert "large" in card


def test_the_conductor_dies_while_the_answer_ends(kiosk: Kiosk) -> None:
    """Nobody tells the next conductor that the answer has ended: it finds out, and comes to rest, so that the visit can end."""
    since = kiosk.seen.mark()
    kiosk.ask(NEXT)
    frozen = kiosk.seen.mark()
    pid = kiosk.freeze("conductor")
    kiosk.seen.wait("page heard", lambda heard: heard["kind"] == "finished", since=since)
    kiosk.kill("conductor", pid)
    kiosk.back("conductor", frozen)
    kiosk.seen.wait(
        "page floor", lambda floor: floor["posture"] == "attentive", since=frozen, why="the conductor knows that nothing sounds"
    )


def test_the_conductor_dies_before_the_answer_sounds(kiosk: Kiosk) -> None:
    """The next conductor hears that an answer sounds already: it does not talk over it."""
    since = kiosk.seen.mark()
    kiosk.page.type(LONG)
    kiosk.seen.wait("bus reply", lambda reply: reply.last, since=since)
    frozen = kiosk.seen.mark()
    pid = kiosk.freeze("conductor")
    turn = kiosk.seen.wait("page heard", lambda heard: heard["kind"] == "started", since=since)["turn"]
    kiosk.kill("conductor", pid)
    kiosk.back("conductor", frozen)
    heard = kiosk.finished(frozen)
    assert heard.turn == turn, f"instead of the answer: {heard.text!r}"
    kiosk.seen.wait("page floor", lambda floor: floor["posture"] == "attentive", since=frozen)


def test_the_stage_dies_late_in_an_answer(kiosk: Kiosk) -> None:
    """Clauses of several sentences are counted right: what was not heard is said again, and no more."""
    since = kiosk.seen.mark()
    turn = kiosk.ask(CARD)
    speech = kiosk.seen.wait("bus speech", lambda speech: speech.turn == turn and speech.last, since=since)
    kiosk.seen.wait("bus playhead", lambda at: at.turn == turn and at.index > speech.start, since=since, why="its last sentence sounds")
    killed = kiosk.seen.mark()
    kiosk.kill("stage")
    kiosk.back("stage", killed)
    assert kiosk.finished(killed).text == speech.text


def test_the_voice_dies_when_its_work_is_done(kiosk: Kiosk) -> None:
    """All sound is made already: the visitor does not hear a break."""
    since = kiosk.seen.mark()
    turn = kiosk.ask(LONG)
    kiosk.seen.wait("bus speech", lambda speech: speech.turn == turn and speech.last, since=since)
    kiosk.kill("voice")
    kiosk.back("voice", since)
    heard = kiosk.finished(since)
    assert (heard.turn, heard.text.split()) == (turn, answer_of(kiosk, turn, since))


def test_half_of_the_kiosk_dies_at_once(kiosk: Kiosk) -> None:
    """Out of memory takes several: nothing hangs, the next question is answered."""
    since = kiosk.seen.mark()
    kiosk.ask(LONG)
    fallen = ("conductor", "stage", "voice", "dialogue")
    for name in fallen:
        kiosk.kill(name)
    for name in fallen:
        kiosk.back(name, since)
    opened = kiosk.seen.mark()  # the floor is told again each second: one of before the fall says nothing
    kiosk.seen.wait("page floor", lambda floor: floor["posture"] == "attentive", since=opened, why="the kiosk is at rest")
    kiosk.ask(NEXT)
    # An apology for the question that fell may still sound before it.
    kiosk.seen.wait(
        "bus heard",
        lambda heard: heard.kind is m.HeardKind.FINISHED and "cash" in heard.text,
        since=opened,
        why="the next question is answered",
    )


# --- start and end


def everything(kiosk: Kiosk) -> list[int]:
    """All its processes."""
    return tree(kiosk.pid)


def gone(pids: list[int]) -> list[str]:
    """The names of those that still run (a zombie does not)."""
    left = []
    for pid in pids:
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] != "Z":
                left.append(stat)
    return left


def shared_memory() -> set[str]:
    """Names in /dev/shm of ours (Chromium and others of this machine come and go)."""
    return {name for name in os.listdir("/dev/shm") if "visavis" in name or name.startswith(("psm_", "sem."))}


def test_a_power_cut_and_a_stop(tmp_path: Path) -> None:
    """SIGKILL of everything leaves a directory at most, which the next start sweeps; SIGTERM leaves nothing, and kills nobody."""
    before = shared_memory()
    with TemporaryDirectory(prefix="vvk-") as name:
        base = Path(name)
        with Kiosk(tmp_path, FAST, base=base) as kiosk:
            pids = everything(kiosk)
            assert len(pids) == 1 + len(OWN_NODES)
            kiosk.cut_power()
            assert gone(pids) == []
            assert shared_memory() == before
            (left,) = base.glob("visavis-*")
        with Kiosk(tmp_path, FAST, base=base) as kiosk:
            assert not left.exists(), "the directory of the dead kiosk was not swept"
            pids = everything(kiosk)
            kiosk.ask(LONG)
            assert kiosk.stop() == 0
            assert gone(pids) == []
            assert list(base.iterdir()) == []
            assert "did not end in time" not in kiosk.said()
            assert "Traceback" not in kiosk.said()
    assert shared_memory() == before


def run(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Start a kiosk that must refuse to; its exit status and what it said."""
    with TemporaryDirectory(prefix="vvk-") as base:
        done = subprocess.run(
            [sys.executable, "-m", "visavis", "run", *arguments],
            cwd=ROOT, env=kiosk_env(Path(base), **environment), capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert os.listdir(base) == [], "something was started, or left"
    assert "ready" not in done.stdout
    return done.returncode, done.stderr.splitlines()


def test_the_port_is_taken(tmp_path: Path) -> None:
    """One line: which port, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        toml = tmp_path / "kiosk.toml"
        toml.write_text(f"[stage]\nport = {port}\n")
        assert run("--config", str(toml)) == (
            2, [f"visavis: port {port} is in use: stop the other program or set stage.port in kiosk.toml"]
        )  # fmt: skip


def test_mistakes_in_the_configuration(tmp_path: Path) -> None:
    """All of them at once, each with its key."""
    toml = tmp_path / "kiosk.toml"
    toml.write_text('pack_paht = "x"\n[stage]\nport = "high"\n[video]\nfsp = 25\n')
    status, lines = run("--config", str(toml))
    assert status == 2
    text = "\n".join(lines)
    for key in ("pack_paht", "stage.port", "video.fsp"):
        assert f"kiosk.toml: {key}: " in text
    assert "Traceback" not in text
    assert len(lines) == 3


def test_a_pack_with_a_slot_that_is_not_defined(tmp_path: Path) -> None:
    """The file, the tool, the slot, and what was probably meant."""
    pack = tmp_path / "pack"
    shutil.copytree(ROOT / "kiosk" / "packs" / "coffee-bar", pack)
    tools = pack / "tools.toml"
    tools.write_text(tools.read_text().replace("<request> [a | an] {size} {coffeeDrink} [please]", "<request> {sise} {coffeeDrink}"))
    toml = tmp_path / "kiosk.toml"
    toml.write_text('pack_path = "pack"\n')
    status, lines = run("--config", str(toml))
    assert status == 2
    assert len(lines) == 1
    assert "tools.toml: tool[orderDrink].phrases: slot {sise} is not defined (did you mean size?)" in lines[0]


# --- a box in a bad state


def notice(kiosk: Kiosk, code: str) -> str:
    """The line that the page shows under `code`."""
    found = kiosk.seen.wait("page notice", lambda notice: notice["code"] == code and notice["text"], why=f"a notice {code}")
    return str(found["text"])


def answers(kiosk: Kiosk) -> None:
    """A question is answered, with a face that moves."""
    since = kiosk.seen.mark()
    kiosk.ask(NEXT)
    assert "cash" in kiosk.finished(since).text
    kiosk.seen.wait("page frame", lambda frame: frame["pts"] >= 0, since=since, why="the face speaks")


def test_a_box_without_models_avatar_and_home(tmp_path: Path) -> None:
    """Nothing downloaded, no avatar, nowhere to write: a drawn face, fallbacks that serve, and a line for the technician about each."""
    cache = tmp_path / "empty"
    cache.mkdir()
    config = f'avatar_path = "{tmp_path}/nobody"\n{FAST}'
    # /proc is a home that nobody can write to, not even root.
    with Kiosk(tmp_path, config, env={"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "VISAVIS_CACHE": str(cache)}) as kiosk:
        assert "a plain face serves" in notice(kiosk, "avatar")
        assert f"{tmp_path}/nobody" in notice(kiosk, "avatar")
        models = notice(kiosk, "voice-activity")
        for name in ("silero-vad", "smart-turn"):
            assert f"model {name} is not here" in models
            assert f"visavis models fetch {name}" in models
        answers(kiosk)
        assert others_that_fell(kiosk, "", 0) == []


def test_a_box_with_damaged_files_and_a_full_disk(tmp_path: Path) -> None:
    """Damaged models and avatar, no room for a record: turns go on, one line about each."""
    models = tmp_path / "cache" / "models"
    models.mkdir(parents=True)
    for name in ("silero_vad.onnx", "smart-turn-v3.2-cpu.onnx"):
        (models / name).write_bytes(b"damaged" * 1000)
    avatar = tmp_path / "avatar"
    shutil.copytree(ROOT / "engines" / "avatars" / "stock", avatar)
    network = next(avatar.glob("*.onnx"))
    network.write_bytes(network.read_bytes()[:-1000])
    config = f'avatar_path = "{avatar}"\n{FAST}'
    with full_disk() as disk, Kiosk(
        tmp_path, config, base=disk, timeline=Path("/dev/full"), env={"VISAVIS_CACHE": str(tmp_path / "cache")}
    ) as kiosk:  # fmt: skip
        assert "damaged" in notice(kiosk, "avatar")
        models_said = notice(kiosk, "voice-activity")
        assert "model silero-vad is damaged" in models_said
        assert "model smart-turn is damaged" in models_said
        answers(kiosk)
        answers(kiosk)
        assert "turn records are lost, the kiosk goes on" in notice(kiosk, "disk")
        assert len([line for line in kiosk.said().splitlines() if "cannot write" in line]) == 1
        assert others_that_fell(kiosk, "", 0) == []


@contextmanager
def full_disk() -> Iterator[Path]:
    """A directory for run directories, on a disk without room if we may make one."""
    with TemporaryDirectory(prefix="vvk-") as name:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", name], capture_output=True, check=False).returncode == 0
        if mounted:
            with suppress(OSError), (Path(name) / "full").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        try:
            yield Path(name)
        finally:
            if mounted:
                subprocess.run(["umount", name], check=True)


# --- the clock

WALL_CLOCK = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"},
    "datetime": {"now", "utcnow", "today", "fromtimestamp"},
}


def wall_clock_reads(source: Path) -> list[str]:
    """Where `source` reads the time of day."""
    found = []
    tree_ = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree_):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if node.attr in WALL_CLOCK.get("datetime" if owner == "date" else owner, ()):
                found.append(f"{source.relative_to(ROOT)}:{node.lineno}: {owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [
                f"{source.relative_to(ROOT)}:{node.lineno}: from time import {n.name}" for n in node.names if n.name in WALL_CLOCK["time"]
            ]
    return found


def test_the_wall_clock_may_jump() -> None:
    """Set right by years in the middle of a visit, it changes nothing: nothing reads it but the fleet's reports, in one place."""
    sources = [path for folder in ("runtime", "engines", "kiosk") for path in (ROOT / folder).rglob("*.py") if "studio" not in path.parts]
    assert len(sources) > 50
    reads = [line.rpartition(": ")[0].rpartition(":")[0] for source in sources for line in wall_clock_reads(source)]
    assert reads == ["runtime/telemetry/times.py"]  # people read those times; tests/runtime/telemetry has its 1970
    pages = [path for path in (ROOT / "kiosk" / "page").rglob("*.js") if re.search(r"Date\.now|new Date", path.read_text(encoding="utf-8"))]
    assert pages == []


def test_a_reading_of_the_wall_clock_would_be_found(tmp_path: Path) -> None:
    """The scan sees what it looks for."""
    code = ROOT / "tests" / "support" / "running.py"
    assert wall_clock_reads(code) == []
    bad = tmp_path / "bad.py"
    bad.write_text("import time, datetime\nfrom time import time_ns\ntime.time()\ndatetime.datetime.now()\ndatetime.date.today()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "ROOT", tmp_path)
        assert [line.split(": ")[1] for line in wall_clock_reads(bad)] == [
            "from time import time_ns", "time.time", "datetime.now", "date.today"
        ]  # fmt: skip
