# Two images from one file: `--target bot` (no torch) and `--target generator`. The one build argument says for which
# device torch is built: cpu, or a CUDA version such as cu128; uv knows where each build is to be had.
ARG TORCH_BACKEND=cpu

FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir "uv>=0.8,<1" && uv venv /opt/bardcast
ENV VIRTUAL_ENV=/opt/bardcast UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /source
COPY pyproject.toml ./

# The dependencies first, in a layer of their own, which changes of the code leave alone.
FROM build AS build-bot
RUN uv pip install -r pyproject.toml
COPY . .
RUN uv pip install --no-deps .

FROM build AS build-generator
ARG TORCH_BACKEND
RUN uv pip install --torch-backend="${TORCH_BACKEND}" -r pyproject.toml --extra generator
COPY . .
RUN uv pip install --no-deps .

FROM python:3.11-slim-bookworm AS base
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bardcast \
    && install --directory --owner=bardcast --mode=0700 /var/lib/bardcast
ENV PATH=/opt/bardcast/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp
USER bardcast

FROM base AS generator
COPY --from=build-generator /opt/bardcast /opt/bardcast
EXPOSE 8765
# Not ok once a window has taken a minute: see generator/service.py.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["bardcast-generator"]
# Beyond loopback it wants a token: the variable BARDCAST_TOKEN.
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS bot
COPY --from=build-bot /opt/bardcast /opt/bardcast
# A new volume takes over the folder's owner, so that nobody has to be root to write there.
ENV BARDCAST_STORE=/var/lib/bardcast/bardcast.sqlite3 BARDCAST_METRICS_PORT=8766
VOLUME /var/lib/bardcast
# Ok while it is connected to Discord: see bot/watch.py.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8766/healthz', timeout=4)"]
ENTRYPOINT ["bardcast"]
CMD ["run"]
