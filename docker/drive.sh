#!/usr/bin/env bash
# Runs a command; one with --address first makes this container a node of that cluster, with nothing to give: Ray wants
# a driver to be on a node.
set -euo pipefail

if [[ " $* " == *" --address "* ]]; then
  ray start --address="${RAY_HEAD:?the address of the Ray head, HOST:PORT}" --num-cpus=0 --num-gpus=0 \
    --object-store-memory=100000000 >/tmp/ray-start.log 2>&1 || { cat /tmp/ray-start.log >&2; exit 3; }
fi
exec "$@"
