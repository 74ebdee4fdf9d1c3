"""What the figures in docs/benchmarks.md were measured with: each module is a command that anyone can rerun."""

from generator.threads import share_cores

share_cores()  # as the commands do that are measured here, and before any module of theirs imports torch
