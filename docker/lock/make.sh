#!/bin/sh
# Writes docker/requirements-cpu.lock and requirements-cuda.lock for the server's image, cvat-cpu.lock and cvat-cuda.lock
# for that of CVAT's functions: every package with its version and its hashes, for Linux on x86-64 and ARM64. To be run
# after a change of pyproject.toml or of a file here:
#
#   pip install uv && docker/lock/make.sh        # what uv understands besides, such as --upgrade, is handed on
#
# PyTorch's CPU builds lie on an index of their own; their hashes stand in torch-cpu.txt and are put in from there.
set -eu
cd "$(dirname "$0")"

compile() {
    file=$1
    shift
    uv pip compile ../../pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --override overrides.txt --constraint constraints.txt --output-file "../$file" --quiet "$@"
}

both() {
    name=$1
    shift
    compile "$name-cuda.lock" "$@"
    compile "$name-cpu.lock" --override cpu-overrides.txt --no-emit-package torch "$@"
    cat torch-cpu.txt >> "../$name-cpu.lock"
}

both requirements --extra server --extra fast "$@"
both cvat functions.txt "$@"
