# One image with every program; the command says which of them runs.
# A release names the base by digest: --build-arg PYTHON=python:3.13-slim@sha256:…
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --only-binary=:all: -r requirements-build.txt
# Filled by the pip of the build, so that it holds what runs and nothing else.
RUN python -m venv --without-pip /opt/ollama-fleet \
 && /opt/build/bin/pip --python /opt/ollama-fleet/bin/python install \
      --require-hashes --only-binary=:all: -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN OLLAMA_FLEET_COMPILED=1 /opt/build/bin/python operator/ollama_fleet/router/build.py \
      --python /opt/ollama-fleet/bin/python
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/ollama-fleet/bin/python install --no-index --no-deps /dist/*.whl \
 && /opt/build/bin/pip --python /opt/ollama-fleet/bin/python check

FROM ${PYTHON}
ARG PYTHON
# What differs from build to build, its revision and date, docs/guides/image.md adds.
LABEL org.opencontainers.image.title="ollama-fleet" \
      org.opencontainers.image.description="A Kubernetes operator for fleets of Ollama servers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="${PYTHON}"
ENV PATH=/opt/ollama-fleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/ollama-fleet /opt/ollama-fleet
# A number, as runAsNonRoot cannot check a name.
USER 65532:65532
EXPOSE 5000 8080 11434
CMD ["ollama-fleet-operator"]
