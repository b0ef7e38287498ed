"""Health check: whether a server of this container answers; the image has no curl.

python /opt/icd/docker/answers.py http://127.0.0.1:5000/health
"""

import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=5).close()
except (urllib.error.URLError, OSError) as error:
    sys.exit(f"{sys.argv[1]}: {error}")
