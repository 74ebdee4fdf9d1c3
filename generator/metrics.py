"""What the service counts about itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The counters of one service. Each has its own registry, so that two services can live in one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.streams = Gauge("bardcast_streams_open", "Streams being played", registry=registry)
        self.windows = Counter("bardcast_windows", "Windows computed", ["kind"], registry=registry)
        self.window_seconds = Histogram(
            "bardcast_window_seconds",
            "Time that a window took to compute",
            buckets=(0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
            registry=registry,
        )
        self.audio_seconds = Counter("bardcast_audio_seconds", "Audio computed", registry=registry)
        self.real_time_factor = Gauge(
            "bardcast_real_time_factor", "The last window's length over the time it took", registry=registry
        )
        self.frames_sent = Counter("bardcast_frames_sent", "Frames of 20 ms sent", registry=registry)
        self.refused = Counter("bardcast_refused", "Connections turned away", ["reason"], registry=registry)
        self.models = Counter("bardcast_models", "Models asked for while it plays", ["result"], registry=registry)
        self.problems = Counter("bardcast_problems", "Problems told to clients", ["code"], registry=registry)
        # At zero from the start: to Prometheus, what first appears as 1 has not grown, and no alarm rings.
        for counter, values in (
            (self.windows, ("first", "next", "change")),
            (self.refused, ("token", "origin", "full")),
            (self.models, ("taken", "refused")),
            (self.problems, ("malformed", "full", "engine", "idle", "state")),
        ):
            for value in values:
                counter.labels(value)

    def window(self, kind: str, audio_seconds: float, compute_seconds: float) -> None:
        """Count one computed window."""
        self.windows.labels(kind).inc()
        self.window_seconds.observe(compute_seconds)
        self.audio_seconds.inc(audio_seconds)
        self.real_time_factor.set(audio_seconds / max(compute_seconds, 1e-6))

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
