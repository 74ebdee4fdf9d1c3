"""The simulated queue obeys what is known of queues, and the manifest is one that a cluster takes."""

import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from benchmarks import scaling, window_times
from benchmarks.scaling_picture import draw
from benchmarks.scaling_queue import Fleet, Load, Outcome, Queue, simulate
from benchmarks.service_curve import Curve, load_curve
from tests.generator.tiny import tiny_engine

ROOT: Final = Path(__file__).resolve().parents[1]
NEVER: Final = 1e9
EVER: Final = 1e6
STEADY: Final = Curve("planted", 4, 4.0, {1: 0.1, 2: 0.15, 4: 0.25}, 0.1)


def run(
    tables: int, workers: int = 1, *, change: float = NEVER, hours: float = EVER, seconds: float = 600.0, **fleet: Any
) -> Outcome:
    fleet = {"failure_hours": math.inf} | fleet
    return simulate(STEADY, Load(tables, hours, change_seconds=change), Fleet(workers, **fleet), seconds, 0)


def test_busy_is_what_was_offered() -> None:
    alone = Curve("planted", 4, 4.0, {1: 0.1}, 0.1)
    outcome = simulate(alone, Load(5, EVER, change_seconds=NEVER), Fleet(1, math.inf), 2_000, 0)
    assert outcome.busy == pytest.approx(5 * 0.5 / 4.0, rel=0.01)  # 0.5 s of a worker for each 4 s of a table
    assert outcome.held == 0


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_waiting_is_that_of_a_queue_with_one_server_and_equal_services(load: float) -> None:
    # Windows that last for ever: all that is asked for is changes, by many tables and so at random (M/D/1).
    service, tables = 0.5, 40
    forever = Curve("planted", 1, NEVER, {1: service}, 0.0)
    change = tables * service / load
    outcome = simulate(forever, Load(tables, EVER, change_seconds=change), Fleet(1, math.inf), 12_000, 0)
    mean = sum(outcome.change_seconds) / len(outcome.change_seconds)
    assert mean - service == pytest.approx(load * service / (2 * (1 - load)), rel=0.15)  # Pollaczek, Khinchine


def test_workers_make_it_better_never_worse() -> None:
    outcomes = [run(20, workers, change=60) for workers in (1, 2, 4)]
    assert outcomes[0].held > 0.05  # or it would prove nothing
    for fewer, more in itertools.pairwise(outcomes):
        assert more.held <= fewer.held
        assert more.change(0.95) < fewer.change(0.95)
        assert more.busy < fewer.busy


@pytest.mark.parametrize("overtaking", [False, True])
def test_failures_lose_no_window(overtaking: bool) -> None:
    outcome = run(12, 3, change=30, hours=0.2, failure_hours=0.02, repair_seconds=20, overtaking=overtaking)
    assert outcome.failures > 10
    assert outcome.called_again > 10
    assert outcome.asked == outcome.made + outcome.dropped + outcome.in_hand
    assert (outcome.dropped > 0) is overtaking


def test_all_workers_may_be_away_at_once() -> None:
    outcome = run(2, 1, failure_hours=0.01, repair_seconds=30)
    assert outcome.failures > 3
    assert 0 < outcome.held < 1
    assert outcome.asked == outcome.made + outcome.in_hand


def test_the_same_seed_is_the_same_evening() -> None:
    load, fleet = Load(10, 1.0, change_seconds=30), Fleet(3, 0.2)
    once, again = (simulate(STEADY, load, fleet, 600, 7) for _ in range(2))
    assert once == again
    assert once != simulate(STEADY, load, fleet, 600, 8)


def test_the_most_urgent_goes_first_and_pauses_who_can_wait() -> None:
    queue = Queue(Curve("planted", 4, 4.0, {1: 1.0}, 0.0), Load(0), Fleet(1, math.inf), 0)
    order = []

    def ask(name: str, slack: float, after: float) -> Any:
        yield queue.env.timeout(after)
        yield queue._ask(slack).made
        order.append((name, queue.env.now))

    for name, slack, after in (("patient", 6.0, 0.0), ("urgent", -1.0, 0.5), ("late", -1.0, 0.7)):
        queue.env.process(ask(name, slack, after))
    queue.run(1)
    assert order == [("urgent", 5.0), ("late", 9.0), ("patient", 12.0)]


def test_a_change_that_overtakes_its_own_window_is_made_sooner() -> None:
    waiting, overtaking = (run(24, 2, change=20, overtaking=policy) for policy in (False, True))
    assert overtaking.change(0.99) < waiting.change(0.99)


def test_a_table_has_as_much_music_as_it_plays() -> None:
    # Nobody could make it: then what is without new music is what there is no time for.
    outcome = run(40, 1, seconds=1_000)
    assert 1 - outcome.held == pytest.approx(STEADY.most_tables / 40, rel=0.03)


def test_a_curve_chooses_as_many_rows_as_pay() -> None:
    assert STEADY.rows == 4
    assert STEADY.step(3) == pytest.approx(0.2)
    assert STEADY.step(8) == pytest.approx(0.5)
    assert Curve("a CPU", 5, 4.0, {1: 0.1, 2: 0.2}, 0.1).rows == 1


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/times").glob("*.json")), ids=lambda path: path.stem)
def test_files_of_times_say_what_they_are(path: Path) -> None:
    curve = load_curve(path)
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    assert curve.name.startswith("assumed: a GPU at " if path.stem.startswith("gpu") else "measured: ")
    assert figures["date"]
    assert curve.most_tables > 1


def test_no_file_of_times_is_said(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text('{"figures": {}}')
    with pytest.raises(SystemExit, match="window_times"):
        load_curve(path)


def test_times_are_of_passes_and_of_what_is_done_once() -> None:
    engine, ticks = tiny_engine(), itertools.count()
    figures = window_times.measure(engine, 4, 2, lambda: float(next(ticks)))
    # Each look at this clock is a second: one a pass, and between passes, before the first and after the last as many.
    assert figures["step_seconds"] == {rows: [1.0, 1.0] for rows in ("1", "2", "4")}
    assert figures["finish_seconds"] == [engine.steps + 1.0] * 2
    assert all(seconds > 0 for seconds in window_times.splicing(engine, 2))


def test_a_gpu_is_assumed_from_operations_and_launches() -> None:
    a_pass, finishing = window_times.count(tiny_engine())
    assert min(a_pass, finishing) > 0
    figures = window_times.assume((1e12, 1e9), 10, 8)
    assert figures["step_seconds"] == {"1": [0.1], "2": [0.2], "4": [0.4], "8": [0.8]}
    assert figures["finish_seconds"] == [window_times.FINISH_LAUNCH_SECONDS]
    assert window_times.assume((1e12, 1e9), 1_000, 1)["step_seconds"] == {"1": [window_times.LAUNCH_SECONDS]}


def test_a_search_ends_where_changes_are_just_in_time(tmp_path: Path) -> None:
    found = scaling.search(STEADY, Fleet(1, math.inf, overtaking=True), 60, 0.3, 0)
    assert 0 < found.tables < STEADY.most_tables
    assert found.p99 < scaling.IN_TIME_SECONDS
    figures = {
        "curve": {"name": "planted", "most_tables": STEADY.most_tables},
        "in_time_seconds": scaling.IN_TIME_SECONDS,
        "carried": [asdict(found), asdict(found) | {"overtaking": False}],
        "swept": {policy: [asdict(found)] for policy in ("waiting", "overtaking")},
    }
    assert draw(figures, tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_what_tables_ask_for_grows_with_them() -> None:
    times = json.loads((ROOT / "benchmarks/times/core.json").read_text(encoding="utf-8"))["figures"]
    few, many = (scaling.demand(tables, 5.0, times) for tables in (100, 1_000_000))
    assert few["workers"] == 21
    assert few["wire_gigabits"] == pytest.approx(100 * 1.59e6 / 1e9, rel=0.01)
    for name in set(few) - {"workers", "bot_cores", "shards"}:
        assert many[name] == pytest.approx(10_000 * few[name])


# The manifest


def documents() -> dict[str, Any]:
    text = (ROOT / "deploy/kuberay.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def problems(document: Any) -> list[str]:
    schema = json.loads((ROOT / "tests/kuberay/rayservice.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema | {"oneOf": [{"$ref": f"#/$defs/{document['kind']}"}]})
    found = (error.context or [error] for error in validator.iter_errors(document))
    return [f"{error.json_path}: {error.message}" for errors in found for error in errors]


def test_the_manifest_keeps_to_its_schema() -> None:
    found = documents()
    assert set(found) == {"RayService", "NetworkPolicy"}
    for document in found.values():
        assert not problems(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "rayClusterConfig", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 0, "minReplicas"], "2"),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 0, "replica"], 2),
        (["spec", "rayClusterConfig", "autoscalerOptions", "upscalingMode"], "Eager"),
        (["spec", "rayClusterConfig", "workerGroupSpecs", 1, "template", "spec", "container"], []),
        (["spec", "serveConfigV2"], {"applications": []}),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else None,
)
def test_the_schema_refuses(path: list[Any], value: Any) -> None:
    document = documents()["RayService"]
    place = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert problems(document)


def test_pods_are_nobody_and_know_the_token_from_a_secret() -> None:
    cluster = documents()["RayService"]["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for spec in (group["template"]["spec"] for group in groups):
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"livenessProbe", "readinessProbe", "resources"} <= set(container)
        (token,) = (each for each in container["env"] if each["name"] == "BARDCAST_TOKEN")
        assert set(token) == {"name", "valueFrom"}
        assert "secretKeyRef" in token["valueFrom"]


def configuration() -> Any:
    return yaml.safe_load(documents()["RayService"]["spec"]["serveConfigV2"])


def test_the_application_is_one_that_ray_serve_would_deploy() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="install .[cluster] for Ray").ServeDeploySchema
    (application,) = schema.model_validate(configuration()).applications
    assert application.import_path == "generator.cluster:application"


def test_the_application_takes_what_it_is_given() -> None:
    cluster = pytest.importorskip("generator.cluster", reason="install .[cluster] for Ray")
    (application,) = configuration()["applications"]
    plan = cluster.Plan.model_validate(application["args"], extra="forbid")
    groups = documents()["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    samplers = next(group for group in groups if group["groupName"] == "sampler")
    assert (plan.least, plan.most) == (samplers["minReplicas"], samplers["maxReplicas"])
    assert application["name"] == cluster.APPLICATION
    assert {each["name"] for each in application["deployments"]} <= {"Ingress", "Sampler"}
