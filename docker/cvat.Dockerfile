# The image that CVAT's functions stand on: Python, the model and its weights. Nuclio builds each function's own
# image on top of it. From the repository's root (cvat_function/deploy.sh does it):
#
#   docker build --file docker/cvat.Dockerfile --target cpu --tag edgetam-cvat:cpu .
#
# VARIANT: which lock file is installed: "cuda" has PyTorch as package indexes have it, for processors and NVIDIA; "cpu"
# leaves CUDA's libraries out and needs TORCH_INDEX, the package index of PyTorch's CPU builds.
# WEIGHTS: "edgetam" fetches the published weights into the image, "default" keeps to those of the package.
ARG PYTHON=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
FROM $PYTHON AS cpu
ARG VARIANT=cuda
ARG TORCH_INDEX=""
ARG WEIGHTS=edgetam
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    EDGETAM_CACHE=/opt/edgetam/cache

# Nuclio's build asks for its SDK without an index, and brings wheels for x86-64 alone: the lock has it, for ARM too.
COPY docker/cvat-$VARIANT.lock /opt/edgetam/requirements.lock
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install --require-hashes --only-binary :all: \
        --requirement /opt/edgetam/requirements.lock

COPY pyproject.toml README.md LICENSE /opt/edgetam/source/
COPY edgetam_model /opt/edgetam/source/edgetam_model
COPY backend /opt/edgetam/source/backend
COPY cvat_function /opt/edgetam/source/cvat_function
RUN pip install --no-index --no-deps --no-build-isolation /opt/edgetam/source && rm -r /opt/edgetam/source

# Nuclio runs the function as this user (deploy.sh says so); its own build steps need root, hence no USER here.
RUN useradd --uid 1000 --create-home edgetam && install --directory --owner edgetam "$EDGETAM_CACHE"
RUN if [ "$WEIGHTS" = edgetam ]; then edgetam weights fetch && chown -R edgetam "$EDGETAM_CACHE"; fi

# What runs later takes the weights that are here, and never waits for a network.
ENV EDGETAM_OFFLINE=1

FROM cpu AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
