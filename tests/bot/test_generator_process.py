import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import generator
from bot.errors import GeneratorError
from bot.generator_process import NICENESS, GeneratorProcess, serve_command
from tests.bot.conftest import dice

CHILD = """
    import os, signal, sys, time
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "broken" in sys.argv:
        sys.exit("the checkpoint is damaged: fetch it again")
    if "slow" in sys.argv:
        time.sleep(60)
    print("a line of no interest")
    print(f"listening on 127.0.0.1:{1000 + os.getpid() % 60000}", flush=True)
    print("token", len(os.environ["BARDCAST_TOKEN"]), file=sys.stderr, flush=True)
    sys.stdin.read()
"""


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs; one that is dead and not yet fetched does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False


def child(*arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(CHILD), *arguments]


@pytest.fixture
async def running() -> AsyncIterator[GeneratorProcess]:
    process = GeneratorProcess(child(), rng=dice(1))
    await process.start()
    yield process
    await process.stop()


def port_of(pid: int) -> str:
    return f"http://127.0.0.1:{1000 + pid % 60000}"


async def test_it_is_ready_when_it_says_so_and_low_in_priority(running: GeneratorProcess) -> None:
    url = await running.url()
    assert running.process is not None
    assert url == port_of(running.process.pid)
    assert running.token is not None
    assert len(running.token) >= 32
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, running.process.pid) == min(19, mine + NICENESS)


async def test_killed_it_comes_back_at_another_address(running: GeneratorProcess) -> None:
    first = await running.url()
    assert running.process is not None
    pid = running.process.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: running.process is not None and running.process.pid != pid)
    second = await running.url()
    assert second != first
    assert running.starts == 2


@pytest.mark.parametrize("arguments", [(), ("stubborn",), ("slow",)])
async def test_stopping_leaves_no_process(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.generator_process.STOP_SECONDS", 0.3)
    process = GeneratorProcess(child(*arguments))
    await process.start()
    if arguments != ("slow",):
        await process.url()
    await until(lambda: process.process is not None)
    assert process.process is not None
    pid = process.process.pid
    await process.stop()
    assert not alive(pid)


async def test_what_it_died_of_is_said() -> None:
    process = GeneratorProcess(child("broken"), rng=dice(1))
    await process.start()
    try:
        with pytest.raises(GeneratorError, match="the checkpoint is damaged: fetch it again"):
            await process.url()
        await until(lambda: process.starts >= 2)
    finally:
        await process.stop()


async def test_one_that_never_gets_ready_is_killed_and_tried_again() -> None:
    process = GeneratorProcess(child("slow"), rng=dice(1), ready_seconds=0.3)
    await process.start()
    try:
        with pytest.raises(GeneratorError, match=r"too long|not ready"):
            await process.url()
        await until(lambda: process.starts >= 2)
    finally:
        await process.stop()


async def test_a_program_that_is_not_there_is_no_crash() -> None:
    process = GeneratorProcess(["/nonexistent/program"])
    await process.start()
    try:
        with pytest.raises(GeneratorError, match="No such file"):
            await process.url()
    finally:
        await process.stop()


def test_an_orphan_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed outright: the child's stdin closes, and that is all it hears of it."""
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            f"""
            import asyncio, os
            from bot.generator_process import GeneratorProcess
            async def main():
                process = GeneratorProcess({child()!r})
                await process.start()
                await process.url()
                print(process.process.pid, flush=True)
                os.kill(os.getpid(), 9)
            asyncio.run(main())
            """
        )
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, parent], capture_output=True, timeout=20, env=env, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.generator_process.missing_packages", lambda: ["torch"])
    with pytest.raises(GeneratorError, match=r"torch is not installed.*bardcast\[generator\].*BARDCAST_GENERATOR_URL"):
        serve_command(None)


def test_the_command_is_the_services_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.generator_process.missing_packages", list)
    command = serve_command("m")
    assert command[1:5] == ["-P", "-m", "generator", "serve"]
    from generator.__main__ import _parser

    options = _parser().parse_args(command[4:])
    assert (options.host, options.port, options.exit_with_stdin, options.model) == ("127.0.0.1", 0, True, "m")


def test_a_generator_in_the_folder_one_is_in_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "generator.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setattr("bot.generator_process.missing_packages", list)
    command = serve_command(None)
    upto = command[: command.index("serve")]
    place = str(Path(generator.__file__).parents[1])  # as an installation would provide it
    env = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run([*upto, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "shadowed" not in done.stderr
    assert "serve" in done.stdout
