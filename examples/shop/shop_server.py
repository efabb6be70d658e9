"""The shop of the example: a server of JSON on loopback, which runs until the file `stop` exists.

    python3 shop_server.py FOLDER

It writes its address to `FOLDER/address` when it takes requests, and each message it receives to `FOLDER/messages`.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
ORDERS = [
    {"id": 1, "customer": "Ada", "amount": "19.50"},
    {"id": 2, "customer": "Grace", "amount": "7.25"},
    {"id": 3, "customer": "O'Neil; DROP TABLE shop_orders", "amount": "101.00"},
    {"id": 4, "customer": "Ada", "amount": "0.75"},
]


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, [{**order, "day": self.path.rpartition("/")[2]} for order in ORDERS])

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with (FOLDER / "messages").open("a") as messages:
            messages.write(text + "\n")
        self._answer(200, {"ok": True})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    part = FOLDER / "address.part"
    part.write_text(f"http://127.0.0.1:{server.server_port}")
    part.rename(FOLDER / "address")
    while not (FOLDER / "stop").exists():
        time.sleep(0.1)
    server.shutdown()


main()
