#!/usr/bin/env bash
# Builds the image, starts the compose stack under a name, ports and secrets of its own, runs the quick start on it, and
# removes the stack. Exit 3: no container engine here.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
  echo "docker-test: $1; without it 'make test' still checks every file of docker/" >&2
  exit 3
}
command -v docker >/dev/null || missing "the command 'docker' is missing"
docker compose version >/dev/null 2>&1 || missing "'docker compose' is missing: install compose's plugin, 2.24 or later"
docker info >/dev/null 2>&1 || missing "no container engine answers ('docker info' fails): start it or set DOCKER_HOST"

folder=$(mktemp -d)
docker/make-secrets.sh "$folder/env"
export MLFLOW_PORT=15000 RAY_PORT=18265 DASHBOARD_PORT=18080
compose() {
  docker compose --project-name icd-test --env-file "$folder/env" --file docker/compose.yaml --profile sweep "$@"
}
finish() {
  code=$?
  if [[ $code -ne 0 ]]; then compose logs --tail 40 >&2 || true; fi
  compose down --volumes --timeout 30 || true
  rm -rf "$folder"
  exit "$code"
}
trap finish EXIT

expect() {
  local got
  got=$(curl --silent --output /dev/null --write-out '%{http_code}' "$2")
  if [[ $got != "$1" ]]; then
    echo "docker-test: $2 must answer $1, but answered $got" >&2
    exit 1
  fi
}

compose build ray-head
compose up --detach --wait --wait-timeout 600 mlflow optuna-dashboard ray-head ray-worker
expect 200 http://127.0.0.1:15000/health
expect 401 'http://127.0.0.1:15000/api/2.0/mlflow/experiments/search?max_results=1'
expect 401 http://127.0.0.1:18265/api/jobs/
expect 200 http://127.0.0.1:18080/dashboard
compose run --rm -T icd
[[ $(compose run --rm -T icd icd trials quickstart --state complete --csv | wc -l) -gt 1 ]]  # a heading, a line each
compose exec -T ray-head ray job submit -- python jobs/export.py quickstart --unconfirmed -o /shared/best.yaml
compose exec -T ray-head test -s /shared/best.yaml
echo "docker-test: the quick start ran on the compose stack"
