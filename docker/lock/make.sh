#!/bin/sh
# Writes docker/requirements-cpu.lock and requirements-cuda.lock: every package of the server's image with its version
# and its hashes, for Linux on x86-64 and ARM64. To be run after a change of pyproject.toml or of a file here:
#
#   pip install uv && docker/lock/make.sh        # what uv understands besides, such as --upgrade, is handed on
#
# PyTorch's CPU builds lie on an index of their own; their hashes stand in torch-cpu.txt and are put in from there.
set -eu
cd "$(dirname "$0")"

lock() {
    variant=$1
    shift
    uv pip compile ../../pyproject.toml --extra server --extra fast --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --override overrides.txt --constraint ../cvat-constraints.txt \
        --constraint constraints.txt --output-file "../requirements-$variant.lock" --quiet "$@"
}

lock cuda "$@"
lock cpu --override cpu-overrides.txt --no-emit-package torch "$@"
cat torch-cpu.txt >> ../requirements-cpu.lock
