#!/usr/bin/env bash
# Runs once, on an empty data folder: an owner for the sweeps' ledger and another for MLflow; neither sees the other's.
set -euo pipefail

: "${ICD_DB_PASSWORD:?is not set; docker/make-secrets.sh makes it}"
: "${MLFLOW_DB_PASSWORD:?is not set; docker/make-secrets.sh makes it}"

# \getenv: a password on a command line could be read by every process of the container.
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv icd_password ICD_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE icd LOGIN PASSWORD :'icd_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE icd OWNER icd;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_users OWNER mlflow;
REVOKE CONNECT, TEMPORARY ON DATABASE icd, mlflow, mlflow_users FROM PUBLIC;
SQL
