#!/bin/sh
# Puts the weights that an image serves into /opt/edgetam/weights: "edgetam" or "default".
set -eu
kept=/opt/edgetam/weights
mkdir --parents "$kept"
case $1 in
edgetam)
    EDGETAM_CACHE=/build/cache /opt/edgetam/bin/edgetam weights fetch
    cp "/build/cache/weights/edgetam.safetensors" "$kept/edgetam.safetensors"
    ;;
default)
    cp "$(/opt/edgetam/bin/python -c 'from edgetam_model.weights import SHIPPED; print(SHIPPED)')" \
        "$kept/default.safetensors"
    ;;
*)
    echo "WEIGHTS: expected edgetam or default, got $1" >&2
    exit 2
    ;;
esac
chmod a+r "$kept"/*
