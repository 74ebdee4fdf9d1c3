"""What the figures in docs/benchmarks.md were measured with: each module is a command that anyone can rerun."""
