"""What every benchmark shares: its options, the machine it ran on, and how its figures are shown and kept."""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np

#: The kernel's own high-water mark: no sampling, so no peak slips through.
_PEAK: Final = "VmHWM:"


def parser(description: str, *, model: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has, and with ``--model`` if it needs one."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    if model:
        made.add_argument("--model", default="bard", metavar="NAME|PATH", help="checkpoint")
    made.add_argument("--out", type=Path, metavar="FILE", help="write the figures there as JSON")
    made.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    return made


def gpu_name(device: str | None) -> str | None:
    """The name of the GPU that ``--device`` means, if it means one."""
    import torch  # not every benchmark needs it

    if device != "cpu" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    if device == "cuda":
        raise SystemExit("there is no GPU here that torch can use: leave --device out")
    return None


def finish(
    title: str, options: argparse.Namespace, rows: Sequence[tuple[str, str]], figures: Mapping[str, Any]
) -> None:
    """Show the rows as a table; keep the figures, with the machine and the options, if a file was named."""
    where = machine(getattr(options, "model", None))
    width = max(len(name) for name, _ in rows)
    lines = [title, "=" * len(title), *(f"{name:<{width}}  {value}" for name, value in rows), ""]
    lines.append(", ".join(f"{key} {value}" for key, value in where.items()))
    sys.stdout.write("\n".join(lines) + "\n")
    if options.out is not None:
        asked = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        body = {"benchmark": title, "machine": where, "options": asked, "figures": figures}
        options.out.write_text(json.dumps(body, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def note(line: str) -> None:
    """Progress, apart from the figures."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def machine(model: str | None) -> dict[str, str]:
    """What a figure means nothing without."""
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **({"torch": metadata.version("torch"), "model": digest(model)} if model is not None else {}),
    }


def digest(model: str) -> str:
    """The checkpoint's SHA-256, shortened: a name stays when a model changes."""
    with checkpoint(model) as path:
        return f"{Path(model).name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


@contextmanager
def checkpoint(model: str) -> Iterator[Path]:
    """The file that a model's name or path stands for."""
    if Path(model).is_file():
        yield Path(model)
    else:
        with as_file(files("generator") / "weights" / f"{model}.safetensors") as path:
            yield path


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile, least and most."""
    array = np.asarray(values, np.float64)
    return {
        "count": float(len(array)),
        "median": float(np.median(array)),
        "p95": float(np.percentile(array, 95)),
        "least": float(array.min()),
        "most": float(array.max()),
    }


def peak_rss(pid: int) -> float:
    """The most memory that a process has held so far, MiB. Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
