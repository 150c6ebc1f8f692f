# The exporter and its dependencies on a plain Python image: `make image`, or `docker build .`
#
# PYTHON_IMAGE needs Python ≥ 3.11 with venv and pip for the build; the running container uses neither its shell nor
# pip. Releases pin the image by digest (docs/releasing.md), because a tag can change.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build

# The build backend, with hashes from the development lock; it is only needed in this stage.
COPY requirements-dev.lock ./
RUN awk '/^[a-z]/ { keep = /^(hatch-fancy-pypi-readme|hatchling|packaging|pathspec|pluggy|trove-classifiers)==/ } keep' \
      requirements-dev.lock > backend.lock \
 && python3 -m venv backend \
 && backend/bin/python -m pip install --require-hashes --no-deps -r backend.lock

# The lock is complete, so nothing is resolved. The environment has no pip; the one of this stage installs into it.
COPY requirements.lock ./
RUN python3 -m venv --without-pip /opt/exporter \
 && backend/bin/python -m pip --python /opt/exporter/bin/python3 install \
      --require-hashes --no-deps --no-compile --only-binary :all: -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
ARG REVISION=""
# Bytecode is compiled here, because the running container is read-only: with unchecked hashes, in one process and
# with a fixed hash seed, so that builds are reproducible. The dependencies' commands are removed.
RUN sed -i "s/^__revision__ = \"\"$/__revision__ = \"${REVISION}\"/" exporter/__init__.py \
 && SOURCE_DATE_EPOCH=315532800 backend/bin/python -m hatchling build -t wheel -d dist \
 && backend/bin/python -m pip --python /opt/exporter/bin/python3 install --no-deps --no-compile --no-index dist/*.whl \
 && PYTHONHASHSEED=0 python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/exporter/lib \
 && find /opt/exporter/bin -type f ! -name verify-factor-exporter -delete


FROM ${PYTHON_IMAGE}
COPY --from=build /opt/exporter /opt/exporter

ENV PATH=/opt/exporter/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1

# config.toml is expected here: mount it. The user is numeric, so that Kubernetes can verify that it is not root.
WORKDIR /etc/verify-factor-exporter
USER 65532:65532
EXPOSE 10069/tcp
STOPSIGNAL SIGTERM

# For Docker and Compose. Kubernetes uses its own probes, and OCI images don't support health checks.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --retries=3 \
  CMD ["/opt/exporter/bin/verify-factor-exporter", "healthcheck"]
ENTRYPOINT ["/opt/exporter/bin/verify-factor-exporter"]
CMD ["run"]

ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="verify-factor-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the status of Twilio Verify factors" \
      org.opencontainers.image.source="https://github.com/OWNER/verify-factor-exporter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
