# Images that train, serve and show the page of a trained model; docs/docker.md has the commands.
#   docker build --target serve --tag gan-experiments:serve .
ARG BASE=python:3.12-slim

FROM ${BASE} AS python
# A base of CUDA's brings no Python.
RUN python3 -c "import ensurepip, venv" || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)

FROM python AS build
# The extras of pyproject.toml, and the index of the build of torch: empty is the usual one, which brings CUDA's libraries.
ARG EXTRAS=serve
ARG TORCH_INDEX=
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY constraints.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY docs/wandb_sweep.yaml docs/
COPY conf conf
COPY src src
RUN /opt/venv/bin/pip wheel --no-cache-dir --no-deps --wheel-dir dist .
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt "$(ls dist/*.whl)[$EXTRAS]"

FROM python AS runtime
RUN useradd --uid 10001 --home-dir /runs --no-create-home gan
RUN install --directory --owner gan --group gan /runs /runs/outputs /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    GAN_EXPERIMENTS_CACHE=/cache/gan_experiments \
    TORCH_HOME=/cache/torch \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib \
    WANDB_DATA_DIR=/cache/wandb \
    WANDB_CACHE_DIR=/cache/wandb \
    WANDB_CONFIG_DIR=/cache/wandb \
    PYTHONDONTWRITEBYTECODE=1
USER gan
WORKDIR /runs
VOLUME ["/runs/outputs", "/cache"]
ENTRYPOINT ["gan-experiments"]

FROM runtime AS serve
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["serve", "run=latest", "host=0.0.0.0"]

FROM serve AS demo
CMD ["demo", "run=latest", "host=0.0.0.0"]

FROM runtime AS train
CMD ["--help"]
