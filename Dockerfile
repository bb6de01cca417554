# One image for the code server, the webserver and the daemon (compose.yaml). Installs as the Makefile does.
FROM python:3.11-slim
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/candlecast
# The CPU build by default; for CUDA: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY orchestration orchestration
COPY assets assets
COPY resources resources
COPY kronos kronos
RUN pip install --extra-index-url "$TORCH_INDEX" --constraint constraints.txt --editable ".[postgres]"
COPY candlecast.toml workspace.yaml dagster.yaml ./
# With /data/dagster, or whoever mounts dagster.yaml into it (compose.yaml) would make it root's.
RUN useradd --create-home candlecast && mkdir --parents /data/dagster && chown --recursive candlecast /data
USER candlecast
# The caches of the model hub and of compiled backtests are in the volume as well, or a new container would have to fetch
# and compile again.
ENV CANDLECAST_HOME=/data DAGSTER_HOME=/data/dagster HF_HOME=/data/hub NUMBA_CACHE_DIR=/data/numba
VOLUME /data
CMD ["candlecast", "run"]
