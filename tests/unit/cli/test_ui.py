"""``icd ui`` beside a server that is not MLflow."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from icd.cli.outcomes import _leaderboard
from icd.errors import SetupError


@pytest.fixture(params=[b"<html>log in</html>", b"[]"], ids=["page", "list"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(request.param)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_answer_that_is_not_mlflows_is_told(address: str) -> None:
    with pytest.raises(SetupError, match="does not answer as MLflow does"):
        _leaderboard(address, "name", "f00d", "icd sync name")
