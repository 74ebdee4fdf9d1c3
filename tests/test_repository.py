"""What the repository's own pages and files promise is so."""

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import discord
import pytest
import yaml

import bot.__main__
import generator.__main__
import training.__main__
from bot import settings
from generator.settings import DEFAULT_PORT
from training.attribution import attribution
from training.corpus import load_pieces

ROOT: Final = Path(__file__).resolve().parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES: Final = sorted(path for pattern in ("*.md", "docs/*.md") for path in ROOT.glob(pattern))
PACKAGES: Final = (
    "benchmarks",
    "benchmarks/paper",
    "benchmarks/soak",
    "bot",
    "generator",
    "training",
    "training/evaluation",
)


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# README


def test_each_dependency_has_its_reason() -> None:
    body = project()
    listed = [*body["project"]["dependencies"], *body["build-system"]["requires"]]
    for extra in body["project"]["optional-dependencies"].values():
        listed += extra
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in listed} - {"bardcast"}
    reasons = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", section("Dependencies"), re.MULTILINE))
    del reasons["Package"]
    assert set(reasons) == names


def test_the_file_tree_is_the_one_there_is() -> None:
    drawn: set[str] = set()
    folder = ""
    for line in section("Architecture").splitlines():
        if heading := re.fullmatch(r" {4}([\w/]+)/(?: {2,}\S.*)?", line):
            folder = heading[1]
        elif entry := re.fullmatch(r" {6}([\w-]+\.\w+) {2,}\S.*", line):
            drawn.add(f"{folder}/{entry[1]}")
    # Packages' own __init__.py hold a sentence and nothing else.
    there = {
        f"{folder}/{path.name}"
        for folder in PACKAGES
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    there |= {f"generator/page/{path.name}" for path in (ROOT / "generator/page").iterdir()}
    assert drawn == there, "README's file tree: a line for each file, and no other"


def test_the_invitation_asks_for_what_the_bot_needs() -> None:
    (asked,) = re.findall(r"&permissions=(\d+)", README)
    music = discord.Permissions(view_channel=True, connect=True, speak=True, request_to_speak=True)
    panel = discord.Permissions(send_messages=True, send_messages_in_threads=True, embed_links=True, attach_files=True)
    assert int(asked) == (music | panel).value
    assert "scope=bot+applications.commands" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        goal = (page.parent / name) if name else page
        assert goal.exists(), f"{page.name} leads to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", goal.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def options(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, set[str]]]:
    """Every command with the options that it takes."""
    known = {option for action in parser._actions for option in action.option_strings}
    yield path, known
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from options(below, f"{path} {name}")


def test_commands_on_the_pages_exist() -> None:
    known: dict[str, set[str]] = {}
    for name, parser in (
        ("bardcast", bot.__main__._parser()),
        ("bardcast-generator", generator.__main__._parser()),
        ("bardcast-train", training.__main__.build_parser()),
    ):
        known |= dict(options(parser, name))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = re.findall(r"(?:`|    |bin/)(bardcast(?:-generator|-train)? [a-z][^`\n#]*)", text)
    assert len(commands) > 15
    for command in commands:
        words = command.split()
        longest = next((n for n in range(len(words), 1, -1) if " ".join(words[:n]) in known), None)
        assert longest, f"no such command: {command}"
        taken = known[" ".join(words[:longest])]
        assert set(re.findall(r"--[a-z-]+", command)) <= taken, f"no such option: {command}"


def test_settings_are_described_and_exist() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    source = Path(settings.__file__).read_text(encoding="utf-8")
    assert described == example == set(re.findall(r'"((?:BARDCAST|DISCORD)_[A-Z_]+)"', source))


def test_the_attribution_is_of_this_corpus() -> None:
    page = (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert page == attribution(load_pieces()), "run: python -m training.attribution > ATTRIBUTION.md"


def test_metrics_are_described_by_their_names() -> None:
    from bot.metrics import page
    from generator.metrics import Metrics

    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(bardcast_\w+)", text, re.MULTILINE))
    told = set(re.findall(r"^# TYPE (bardcast_\w+)", Metrics().page().decode() + page({}, 0, False), re.MULTILINE))
    assert described == {name for name in told if not name.endswith("_created")}


def alarms() -> Iterator[str]:
    """What the bot logs as a warning or worse, with … for each fact."""
    for path in sorted((ROOT / "bot").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr="warning" | "error" | "exception" | "critical"),
                    args=[ast.Constant(value=str(line)), *_],
                ):
                    yield re.sub(r"%[a-z]", "…", line)


def test_each_alarm_is_explained() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([^`]+)` \| ", page.split("\n## Logs\n")[1].split("\n## ")[0], re.MULTILINE))
    # A line that is nothing but an error's own sentence says itself what to do.
    assert explained == set(alarms()) - {"…"}


# Containers


def stages() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    parts = re.split(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)
    return {name: f"{base}\n{body}" for base, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def test_images_run_as_nobody_special_and_say_how_they_are() -> None:
    built = stages()
    assert re.search(r"^USER bardcast$", built["base"], re.MULTILINE)
    for target in ("bot", "generator"):
        assert built[target].startswith("base\n")
        assert "USER" not in built[target]
        assert re.search(r"^HEALTHCHECK .*\\\n +CMD \[", built[target], re.MULTILINE)
        assert "RUN" not in built[target]  # all that is installed comes from the builder
    assert "torch" not in built["build-bot"]
    assert "extra" not in built["build-bot"]


def test_one_build_argument_chooses_the_device() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^ARG (\w+)", text, re.MULTILINE)) == {"TORCH_BACKEND"}
    assert "--torch-backend=" in text
    assert not re.search(r"gcc|build-essential|apt-get", text)


def services() -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    networks = body["networks"]
    assert networks["music"]["internal"] is True
    return dict(body["services"])


def test_only_the_bot_reaches_the_generator() -> None:
    found = services()
    assert set(found) == {"bot", "generator"}
    assert found["generator"]["networks"] == ["music"]
    assert not {"ports", "network_mode"} & {key for service in found.values() for key in service}
    assert "music" in found["bot"]["networks"]
    address = found["bot"]["environment"]["BARDCAST_GENERATOR_URL"]
    assert address == f"http://generator:{DEFAULT_PORT}"
    assert settings.load_settings({"BARDCAST_GENERATOR_URL": address}).generator_urls == (address,)


def test_services_share_a_secret_and_need_no_rights() -> None:
    found = services()
    secrets = {name: service["environment"]["BARDCAST_TOKEN"] for name, service in found.items()}
    assert len(set(secrets.values())) == 1
    assert all(secret.startswith("${BARDCAST_TOKEN:?") for secret in secrets.values())  # no default, ever
    for name, service in found.items():
        assert service["build"]["target"] == name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
    assert found["bot"]["depends_on"]["generator"]["condition"] == "service_healthy"


def test_the_gpu_is_an_addition() -> None:
    body = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(body["services"]) == {"generator"}
    assert set(body["services"]["generator"]) == {"build", "deploy"}


def test_the_import_contract_knows_every_room_of_the_generator() -> None:
    open_to_the_bot = {"__init__", "config", "console", "loudness", "moods", "picture", "protocol"}
    contracts = project()["tool"]["importlinter"]["contracts"]
    (forbidden,) = (contract["forbidden_modules"] for contract in contracts if contract["type"] == "forbidden")
    rooms = {path.stem for path in (ROOT / "generator").glob("*.py")}
    assert set(forbidden) == {f"generator.{room}" for room in rooms - open_to_the_bot}
