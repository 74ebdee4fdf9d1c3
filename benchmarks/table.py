"""The whole of Bardcast at a table: the real bot with the generator that it starts, heard through a loopback Discord.

A person types ``/mood`` again and again; every voice packet is timed by the kernel as it arrives, decrypted, decoded.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.observed_bot import FILE
from benchmarks.report import checkpoint, finish, note, parser, peak_rss, spread
from generator.loudness import MOMENTARY_SECONDS, SHORT_TERM_SECONDS, jump
from generator.moods import MOODS, Mood
from generator.protocol import FRAME_SECONDS, SAMPLE_RATE
from tests.discord_server import SILENCE, TOKEN, DiscordServer, Listener

FIRST_SOUND_SECONDS = 180.0
FULL_SCALE = 0.9999  #: of a decoded sample; Opus may overshoot what was encoded
SILENT_DBFS = -60.0
SPANS = (MOMENTARY_SECONDS, SHORT_TERM_SECONDS)  #: before and after a place, whose loudness is compared
STEADY_STEP_SECONDS = 5.0  #: how far apart the places are whose steps are compared with those at changes


@dataclass
class Evening:
    """What happened, before anything is made of it."""

    listener: Listener
    asked: list[tuple[float, Mood]] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)  #: seconds to the first answer of each command
    landed: list[dict[str, Any]] = field(default_factory=list)
    cold_start: float = 0.0
    last_words: str = ""  #: what /now said at the end
    bot_rss: float = 0.0
    generator_rss: float = 0.0
    end: float = 0.0


async def play(generator: Mapping[str, str], minutes: float, changes: int, seed: int) -> Evening:
    """One evening, from the bot's start to its end.

    Args:
        generator: the bot's settings that say which generator it uses.
        minutes: how long the music plays.
        changes: how many changes of mood are spread over that time.
        seed: of which moods and when.
    """
    rng = random.Random(seed)  # noqa: S311 - when to ask for what
    with tempfile.TemporaryDirectory() as folder:
        landings = Path(folder) / "landings.jsonl"
        landings.touch()
        async with DiscordServer() as discord:
            gm = discord.add_member("gm")
            await discord.join_voice(gm, discord.guild.voice)
            store = str(Path(folder) / "bardcast.sqlite3")
            env = {"DISCORD_TOKEN": TOKEN, "BARDCAST_VOLUME": "100", "BARDCAST_STORE": store, FILE: str(landings)}
            env |= generator
            begun = time.monotonic()
            process = await discord.spawn("benchmarks.observed_bot", "run", env=env)
            try:
                await discord.wait_ready(timeout=60)
                mood = rng.choice(MOODS)
                await discord.slash(gm, "mood", mood=mood)
                listener = await discord.wait_voice(packets=1, timeout=FIRST_SOUND_SECONDS)
                evening = Evening(listener, cold_start=time.monotonic() - begun)
                start = time.monotonic()
                # One change in each of equal stretches, at an irregular moment: beats and windows are met anywhere.
                stretch = 60 * minutes / (changes + 1)
                for number in range(changes):
                    await _until(start + (number + 1) * stretch + rng.uniform(-0.3, 0.3) * stretch)
                    mood = rng.choice([other for other in MOODS if other != mood])
                    asked = time.monotonic()
                    reply = await discord.slash(gm, "mood", mood=mood)
                    evening.asked.append((asked, mood))
                    evening.answered.append(reply.seconds)
                    note(f"{asked - start:6.1f} s: /mood {mood}")
                await _until(start + 60 * minutes)
                evening.last_words = await (await discord.slash(gm, "now")).wait_for_text("ready")
                evening.end = time.monotonic()
                evening.bot_rss = peak_rss(process.pid)
                children = psutil.Process(process.pid).children(recursive=True)
                evening.generator_rss = sum(peak_rss(child.pid) for child in children)
                await (await discord.slash(gm, "stop")).wait_for_text("stopped")
                await discord.wait_gone()
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
            evening.landed = [json.loads(line) for line in landings.read_text(encoding="utf-8").splitlines()]
    return evening


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


def delays(evening: Evening, numbers: dict[int, int]) -> list[tuple[float, int]]:
    """For each change the seconds from the command to its first packet, and which packet that was."""
    found = []
    landed = evening.landed[1:]  # the first is the evening's first mood, which was no change
    for (asked, mood), landing in zip(evening.asked, landed, strict=True):
        if landing["mood"] != mood:
            raise SystemExit(f"{mood} was asked for and {landing['mood']} came: leave more time between changes")
        index = numbers[landing["packet"]]
        found.append((evening.listener.packets[index].arrival - asked, index))
    return found


def music_packets(listener: Listener) -> dict[int, int]:
    """The index among all packets of the n-th that carries music; by sequence number, so that a lost one counts."""
    sequences = listener.sequences()
    silences = np.cumsum([packet.payload == SILENCE for packet in listener.packets])
    places = sequences - sequences[0] - silences
    return {int(place): index for index, place in enumerate(places) if listener.packets[index].payload != SILENCE}


def look(evening: Evening) -> dict[str, Any]:
    """All figures."""
    listener = evening.listener
    changes = delays(evening, music_packets(listener))
    gaps = listener.inter_arrival(end=evening.end)
    playing = [packet for packet in listener.packets if packet.arrival < evening.end]
    sound = listener.audio(end=evening.end)
    seconds = sound[: len(sound) // SAMPLE_RATE * SAMPLE_RATE].reshape(-1, SAMPLE_RATE * 2)
    rms = np.sqrt(np.mean(np.square(seconds), axis=1))
    frames = np.abs(sound).max(axis=1).reshape(-1, round(FRAME_SECONDS * SAMPLE_RATE)).max(axis=1)
    origin = listener.packets[0].timestamp
    at = [(listener.packets[index].timestamp - origin) % 2**32 for _, index in changes]
    elsewhere = np.arange(STEADY_STEP_SECONDS, len(sound) / SAMPLE_RATE, STEADY_STEP_SECONDS) * SAMPLE_RATE
    where = (("at a change", at), ("elsewhere", elsewhere.tolist()))
    held = re.search(r"([\d.]+) s extended, (\d+) packets missed", evening.last_words)
    return {
        "minutes": (playing[-1].arrival - playing[0].arrival) / 60,
        "cold_start_seconds": evening.cold_start,
        "change_seconds": spread([delay for delay, _ in changes]),
        "changes": [delay for delay, _ in changes],
        "answer_seconds": spread(evening.answered),
        "packets": len(playing),
        "packets_missing": len(listener.gaps()),
        "inter_arrival_ms": {
            **{f"p{share}": 1000 * float(np.percentile(gaps, share)) for share in (50, 99)},
            "most": 1000 * float(gaps.max()),
        },
        "underruns": sum(packet.payload == SILENCE for packet in playing),
        "held_seconds": float(held.group(1)) if held else None,
        "not_finite_samples": int((~np.isfinite(sound)).sum()),
        "clipped_frames": int((frames >= FULL_SCALE).sum()),
        "loudest_sample": float(frames.max()),
        "silent_seconds": int((20 * np.log10(np.maximum(rms, 1e-9)) < SILENT_DBFS).sum()),
        "loudness_step_lu": {
            f"{span:g} s": {name: spread([jump(sound, int(place), span) for place in places]) for name, places in where}
            for span in SPANS
        },
        "bot_peak_rss_mib": evening.bot_rss,
        "generator_peak_rss_mib": evening.generator_rss,
    }


def main(arguments: list[str] | None = None) -> int:
    """Play an evening and show how it went."""
    options = _parse(arguments)
    with checkpoint(options.model) as model:
        generator = {"BARDCAST_GENERATOR_URL": "", "BARDCAST_MODEL": str(model.resolve())}
        evening = asyncio.run(play(generator, options.minutes, options.changes, options.seed))
    found = look(evening)
    change, arrival = found["change_seconds"], found["inter_arrival_ms"]
    rows = [
        ("played", f"{found['minutes']:.1f} minutes, {found['packets']} packets, {options.changes} changes of mood"),
        (
            "/mood to audible change",
            f"median {change['median']:.2f} s, p95 {change['p95']:.2f} s, most {change['most']:.2f} s",
        ),
        (
            "first answer to a command",
            f"median {found['answer_seconds']['median']:.3f} s, most {found['answer_seconds']['most']:.3f} s",
        ),
        ("bot's start to first packet", f"{found['cold_start_seconds']:.1f} s"),
        ("packets missing", str(found["packets_missing"])),
        ("inter-arrival", f"p50 {arrival['p50']:.2f} ms, p99 {arrival['p99']:.2f} ms, most {arrival['most']:.2f} ms"),
        ("underruns", f"{found['underruns']} packets of silence; {found['held_seconds']} s extended"),
        (
            "decoded sound",
            f"{found['not_finite_samples']} samples not finite, {found['clipped_frames']} frames clipped "
            f"(loudest sample {found['loudest_sample']:.3f}), {found['silent_seconds']} seconds silent",
        ),
        *(
            (
                f"loudness step {place}, {span}",
                f"median {step['median']:.1f} LU, p95 {step['p95']:.1f} LU, most {step['most']:.1f} LU",
            )
            for span, steps in found["loudness_step_lu"].items()
            for place, step in steps.items()
        ),
        ("peak RSS", f"bot {found['bot_peak_rss_mib']:.0f} MiB, generator {found['generator_peak_rss_mib']:.0f} MiB"),
    ]
    finish("Table", options, rows, found)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(str(__doc__).splitlines()[0])
    made.add_argument("--minutes", type=float, default=10.0, help="how long the music plays")
    made.add_argument("--changes", type=int, default=20, help="of mood, spread over that time")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
