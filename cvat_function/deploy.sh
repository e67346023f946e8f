#!/usr/bin/env bash
# Build the image and deploy EdgeTAM's interactor and tracker to the CVAT on this machine.
#
#   cvat_function/deploy.sh cpu|gpu [interactor|tracker] [-- FURTHER ARGUMENTS OF nuctl deploy]
#
# EDGETAM_WEIGHTS, EDGETAM_DEVICE, EDGETAM_QUALITY, EDGETAM_MAX_PIXELS and EDGETAM_CVAT_… become settings of the functions
# (docs/cvat.md). EDGETAM_QUALITY=fast deploys functions of their own, "EdgeTAM fast", beside the others.
# For this script alone:
#   EDGETAM_BAKE          weights in the image: edgetam (published, the default) or default (those of the package)
#   EDGETAM_TORCH_INDEX   the package index of PyTorch's CPU builds, for a small CPU image
#   CVAT_NETWORK          CVAT's Docker network, cvat_cvat unless said
# A weights file of your own: put it below /srv/edgetam on this machine and say
#   EDGETAM_WEIGHTS=/weights/cells.safetensors cvat_function/deploy.sh cpu -- --volume /srv/edgetam:/weights
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

variant=cuda index="" # PyTorch as package indexes have it also runs without a GPU
case "${1:-}" in
    cpu)
        file=function.yaml
        [ -z "${EDGETAM_TORCH_INDEX:-}" ] || variant=cpu index="$EDGETAM_TORCH_INDEX"
        ;;
    gpu) file=function-gpu.yaml ;;
    *) usage ;;
esac
shift
functions=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case "$1" in
        interactor | tracker) functions+=("$1") ;;
        *) usage ;;
    esac
    shift
done
[ "${1:-}" != -- ] || shift
[ ${#functions[@]} -gt 0 ] || functions=(interactor tracker)

for program in docker nuctl; do
    command -v "$program" > /dev/null || { echo "$program is not installed; see docs/cvat.md" >&2; exit 1; }
done
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Nuclio's dashboard and nuctl have to be of one version: most failed deployments are this.
dashboard="$(docker inspect --format '{{.Config.Image}}' nuclio 2> /dev/null || true)"
if [ -z "$dashboard" ]; then
    echo "Nuclio does not run: start CVAT with components/serverless/docker-compose.serverless.yml" >&2
    exit 1
fi
version="${dashboard##*:}"
if ! nuctl version | grep -qF "${version%%-*}"; then
    echo "warning: nuctl should be version ${version%%-*}, as $dashboard is" >&2
fi

# Where EDGETAM_CVAT_STATE=redis keeps states, unless told otherwise: the Redis that CVAT has for this.
export CVAT_FUNCTIONS_REDIS_HOST="${CVAT_FUNCTIONS_REDIS_HOST:-cvat_redis_ondisk}"
export CVAT_FUNCTIONS_REDIS_PORT="${CVAT_FUNCTIONS_REDIS_PORT:-6666}"
settings=()
while IFS='=' read -r name value; do
    case "$name" in
        EDGETAM_WEIGHTS | EDGETAM_DEVICE | EDGETAM_QUALITY | EDGETAM_MAX_PIXELS | EDGETAM_CVAT_* | \
            CVAT_FUNCTIONS_REDIS_*)
            settings+=(--env "$name=$value")
            ;;
    esac
done < <(env)

# The functions' files name the image below theirs; its tag is the stage of the Dockerfile, cpu or cuda.
built=""
for function in "${functions[@]}"; do
    image="$(sed -n 's/^ *baseImage: *//p' "$here/$function/$file")"
    if [ "$image" != "$built" ]; then
        docker build --file "$here/../docker/cvat.Dockerfile" --target "${image##*:}" --tag "$image" \
            --build-arg "WEIGHTS=${EDGETAM_BAKE:-edgetam}" \
            --build-arg "VARIANT=$variant" --build-arg "TORCH_INDEX=$index" "$here/.."
        built="$image"
    fi
done

# What annotators choose between in CVAT's list are functions: the fast one has a name and an image of its own.
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
name_fast() {
    sed -e 's/^  name: edgetam-.*/&-fast/' -e 's/^    name: EdgeTAM$/& fast/' -e 's/^    image: .*/&.fast/'
}
for function in "${functions[@]}"; do
    mkdir "$made/$function"
    case "${EDGETAM_QUALITY:-exact}" in
        fast) name_fast ;;
        *) cat ;;
    esac < "$here/$function/$file" > "$made/$function/$file"
done

nuctl get project cvat --platform local > /dev/null 2>&1 || nuctl create project cvat --platform local
for function in "${functions[@]}"; do
    nuctl deploy --project-name cvat --path "$here/$function" --file "$made/$function/$file" --platform local \
        --platform-config "{\"attributes\": {\"network\": \"${CVAT_NETWORK:-cvat_cvat}\"}}" \
        --run-as-user 1000 --run-as-group 1000 "${settings[@]}" "$@"
done
nuctl get function --platform local
