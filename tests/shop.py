"A server of downloads on this machine, whose manners can be chosen."

import hashlib
import os
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from taco.data.card import load_card

BODY = os.urandom(200_000)


class Shop(ThreadingHTTPServer):
    """Its manners, of which the second half may be a number of bytes, as in "cut 5000":

    good; slow: a little at a time; cut: hangs up in the middle, or there; "cut, length not said"; long: says more than
    it sends; short: says less; other: as many bytes, of which one is another; rest: unasked, only what follows there,
    as a download that is resumed would get it; gone: 404; ill: 500.
    """

    def __init__(self, files: dict[str, bytes] | None = None):
        self.manners, self.files, self.asked = "good", files or {"toy_128.npz": BODY}, 0
        super().__init__(("127.0.0.1", 0), Handler)

    def open(self) -> "Shop":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def row(self, name="toy_128.npz", **more) -> dict:
        url, digest = f"http://127.0.0.1:{self.server_port}/{name}", hashlib.sha256(self.files[name]).hexdigest()
        return dict(name=name, url=url, sha256=digest) | more


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        shop, body = self.server, self.server.files.get(self.path.strip("/"))
        manners, _, number = shop.manners.partition(" ")
        shop.asked += 1
        if manners == "gone" or body is None:
            return self.send_error(404)
        if manners == "ill":
            return self.send_error(500)
        at = int(number) % len(body) if number.isdigit() else len(body) // 2
        said = len(body) + dict(long=at + 1, short=-at, rest=-at).get(manners, 0)
        self.send_response(206 if manners == "rest" else 200)
        if shop.manners != "cut, length not said":
            self.send_header("Content-Length", str(said))
        if manners == "rest":
            self.send_header("Content-Range", f"bytes {at}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        sent = {"cut": body[:at], "cut,": body[:at], "short": body[:said], "rest": body[at:]}.get(manners, body)
        if manners == "other":
            sent = body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]
        step = max(1, len(body) // 100 if manners == "slow" else len(body))
        pause = float(number or .1) if manners == "slow" else 0
        try:
            for start in range(0, len(sent), step):
                self.wfile.write(sent[start:start + step])
                self.wfile.flush()
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the other side was killed


def toy(*rows, **more):
    "A card with these downloads."
    return replace(load_card("drive"), name="toy", files=list(rows), **more)
