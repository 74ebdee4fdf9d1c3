"""How torch's threads wait for one another. Torch-free: it must be settled before torch is imported."""

import os


def share_cores() -> None:
    """Let waiting threads sleep.

    OpenMP's default is to spin at every barrier, which takes the core from whomever is waited for. On two cores a
    window of music took 0.99 s so and 0.60 s asleep; beside another busy process the gap was tenfold. Whoever has
    set ``OMP_WAIT_POLICY`` keeps it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
