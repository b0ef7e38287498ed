"""Makes MLflow's bucket where it is missing; address and keys come by the environment.

python make_bucket.py mlflow
"""

import os
import sys

import boto3
from botocore.exceptions import ClientError

client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
try:
    client.create_bucket(Bucket=sys.argv[1])
except ClientError as error:
    if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
        raise
