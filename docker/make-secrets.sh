#!/usr/bin/env bash
# Writes docker/.env with a fresh random value for every secret, for you alone to read. Compose reads it by itself.
# Never overwrites: PostgreSQL, MinIO and MLflow take their passwords once, on an empty volume.
#
#   docker/make-secrets.sh [FILE]
set -euo pipefail

file=${1:-$(dirname "$0")/.env}
umask 077
if ! (set -o noclobber; : > "$file") 2>/dev/null; then
  echo "make-secrets.sh: $file: a new file must be possible there, but it exists or cannot be made;" \
    "to begin anew, 'docker compose down --volumes' and remove it" >&2
  exit 5
fi
# Hexadecimal: good in a URL, a YAML file and a shell without quotes.
for name in POSTGRES_PASSWORD ICD_DB_PASSWORD MLFLOW_DB_PASSWORD MLFLOW_ADMIN_PASSWORD MLFLOW_SECRET_KEY S3_PASSWORD \
  RAY_AUTH_TOKEN; do
  printf '%s=%s\n' "$name" "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >> "$file"
done
echo "$file: 7 secrets, mode 0600" >&2
