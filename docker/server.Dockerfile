# The image of `edgetam serve` and `edgetam worker`. From the repository's root:
#
#   docker build --file docker/server.Dockerfile --tag edgetam:cpu --build-arg TORCH_INDEX=URL .
#   docker build --file docker/server.Dockerfile --tag edgetam:cuda --build-arg VARIANT=cuda .
#
# VARIANT: "cpu" or "cuda": which lock file is installed. TORCH_INDEX: the package index of PyTorch's CPU builds, which
# "cpu" needs. WEIGHTS: "edgetam" fetches the published weights into the image, "default" keeps to the package's own.
ARG PYTHON=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
FROM $PYTHON AS build
ARG VARIANT=cpu
ARG TORCH_INDEX=""
ARG WEIGHTS=edgetam
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN python -m venv /opt/edgetam
COPY docker/requirements-$VARIANT.lock /build/requirements.lock
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" /opt/edgetam/bin/pip install --require-hashes --only-binary :all: \
        --requirement /build/requirements.lock

COPY pyproject.toml README.md LICENSE /build/source/
COPY edgetam_model /build/source/edgetam_model
COPY backend /build/source/backend
COPY cvat_function /build/source/cvat_function
RUN /opt/edgetam/bin/pip install --no-index --no-deps --no-build-isolation /build/source

# A file of its own, apart from the cache, which is a volume: an image brings its weights, whatever lies in a volume.
COPY docker/weights.sh /build/
RUN /build/weights.sh "$WEIGHTS"

FROM $PYTHON
ARG WEIGHTS=edgetam
RUN useradd --uid 1000 --home-dir /var/lib/edgetam --no-create-home --shell /usr/sbin/nologin edgetam \
    && install --directory --owner edgetam --group edgetam --mode 750 /var/lib/edgetam /var/cache/edgetam
COPY --from=build /opt/edgetam /opt/edgetam
# Nothing is fetched while it runs but media; what it writes goes into these two folders and /tmp.
ENV PATH=/opt/edgetam/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    EDGETAM_OFFLINE=1 \
    EDGETAM_WEIGHTS=/opt/edgetam/weights/$WEIGHTS.safetensors \
    EDGETAM_CACHE=/var/cache/edgetam \
    MODEL_DIR=/var/lib/edgetam
USER 1000:1000
WORKDIR /var/lib/edgetam
EXPOSE 9090
STOPSIGNAL SIGTERM
CMD ["edgetam", "serve", "--workers", "0", "--log-json"]
