# The image that CVAT's functions stand on: Python, the model and its weights. Nuclio builds each function's own
# image on top of it. From the repository's root (cvat_function/deploy.sh does it):
#
#   docker build --file docker/cvat.Dockerfile --target cpu --tag edgetam-cvat:cpu .
#
# TORCH_INDEX: an extra package index for PyTorch. Its CPU index leaves CUDA's libraries out; for CUDA leave it empty.
# WEIGHTS: "edgetam" fetches the published weights into the image, "default" keeps to those of the package.
FROM python:3.11.13-slim-bookworm AS cpu
ARG TORCH_INDEX=""
ARG WEIGHTS=edgetam
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    EDGETAM_CACHE=/opt/edgetam/cache

# Nuclio's build asks for its SDK without an index, and brings wheels for x86-64 alone: here already, it builds on ARM.
COPY docker/cvat-constraints.txt /opt/edgetam/
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install --constraint /opt/edgetam/cvat-constraints.txt \
        torch nuclio-sdk msgpack redis

COPY pyproject.toml README.md LICENSE /opt/edgetam/source/
COPY edgetam_model /opt/edgetam/source/edgetam_model
COPY backend /opt/edgetam/source/backend
COPY cvat_function /opt/edgetam/source/cvat_function
RUN pip install --constraint /opt/edgetam/cvat-constraints.txt "/opt/edgetam/source" && rm -r /opt/edgetam/source

# Nuclio runs the function as this user (deploy.sh says so); its own build steps need root, hence no USER here.
RUN useradd --uid 1000 --create-home edgetam && install --directory --owner edgetam "$EDGETAM_CACHE"
RUN if [ "$WEIGHTS" = edgetam ]; then edgetam weights fetch && chown -R edgetam "$EDGETAM_CACHE"; fi

# What runs later takes the weights that are here, and never waits for a network.
ENV EDGETAM_OFFLINE=1

FROM cpu AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
