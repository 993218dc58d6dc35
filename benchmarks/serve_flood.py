"""Floods `vlmixer bank serve` with new connections, and says how honest requests fare meanwhile.

    python benchmarks/serve_flood.py [--root OTHER_CHECKOUT]... [--seconds 6] [--rounds 2] [--only "close*"]

Each server runs alone, on loopback, over a bank of one patch. A client opens connections as fast as it can: it resets
each at once ("close"), keeps the last 400 open and silent ("hold"), resets each after a byte ("byte"), or asks for the
page and takes no answer ("ask"). It comes from the address of the honest client, or from sixteen others. The honest one
asks a question ten times a second. Prints, per checkout in turn: connections per second of the flood, honest requests,
those that failed, and the median and the slowest answer.
"""

import argparse
import fnmatch
import http.client
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `tests`

from tests.pipeline.report.small import BankPatch, jpeg, make_bank

ROOT = Path(__file__).resolve().parents[1]
HELD = 400
"""Connections that the flood keeps open."""
MOST = 300_000
"""Connections of one flood."""
TIMEOUT = 20.0
RESET = struct.pack("ii", 1, 0)
SENT = {"close": b"", "hold": b"", "byte": b"G", "ask": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}
SOURCES = {"same": ["127.0.0.1"], "others": [f"127.0.0.{number}" for number in range(2, 18)]}


def flood(port: int, kind: str, sources: list[str], seconds: float) -> int:
    """Open connections for so long. Returns how many were opened."""
    held: deque[socket.socket] = deque()
    end, opened = time.monotonic() + seconds, 0
    for source in cycle(sources):
        if time.monotonic() > end or opened >= MOST:
            break
        client = socket.socket()
        client.settimeout(0.2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # else ports run out
        with suppress(OSError):
            client.bind((source, 0))
            client.connect(("127.0.0.1", port))
            client.send(SENT[kind])
            opened += 1
        held.append(client)
        while len(held) > (HELD if kind == "hold" else 0):
            held.popleft().close()
    for client in held:
        client.close()
    return opened


@dataclass
class Honest:
    """What became of honest requests: seconds of the answered ones, and errors of the others."""

    taken: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ask(self, port: int) -> None:
        """Ask once."""
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            connection.request("GET", "/api/concepts/0")
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            self.taken.append(time.monotonic() - began)
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{type(error).__name__} after {time.monotonic() - began:.1f} s")

    def ask_often(self, port: int, seconds: float) -> None:
        """Ask ten times a second, each time in a thread, and wait for the answers."""
        threads = [threading.Thread(target=self.ask, args=(port,)) for _ in range(int(seconds * 10))]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()

    def __str__(self) -> str:
        slow = f"median {statistics.median(self.taken):.3f} s, slowest {max(self.taken):.2f} s" if self.taken else ""
        return f"{len(self.taken) + len(self.failed)} asked, {len(self.failed)} failed, {slow} {set(self.failed) or ''}"


def measure(root: Path, bank: Path, kind: str, sources: list[str], seconds: float) -> str:
    """What a flood does to a new server of this checkout."""
    server = subprocess.Popen(
        [sys.executable, "-m", "vlmixer", "bank", "serve", str(bank), "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(root / "src")}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        port = next(int(found[1]) for line in server.stderr if (found := re.search(r"http://.*:(\d+)", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        into, out_of = os.pipe()[::-1]
        child = os.fork()  # a process of its own: as a thread it would be slowed down by the honest client
        if not child:
            os.write(into, str(flood(port, kind, sources, seconds)).encode())
            os._exit(0)
        time.sleep(0.5)
        honest = Honest()
        honest.ask_often(port, seconds - 1)
        opened = int(os.read(out_of, 20))
        os.waitpid(child, 0)
        used = sum(int(number) for number in Path(f"/proc/{server.pid}/stat").read_text().split()[13:15])
        return f"{opened / seconds:,.0f} opened/s, server {used / os.sysconf('SC_CLK_TCK'):.1f} s CPU, {honest}"
    finally:
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(15)
        server.kill()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="*", help="floods, as KIND SOURCES")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank"
        make_bank(bank, [["dog"]], [BankPatch("d-0", "dog", jpeg("red"))])
        for kind in SENT:
            for name, sources in SOURCES.items():
                if not fnmatch.fnmatch(f"{kind} {name}", options.only):
                    continue
                for _ in range(options.rounds):
                    for root in (*options.root, ROOT):
                        found = measure(root.resolve(), bank, kind, sources, options.seconds)
                        print(f"{kind} {name} | {root.resolve().name} | {found}", flush=True)


if __name__ == "__main__":
    main()
