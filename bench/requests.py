"""`python -m bench http`: run many tasks of type http against a server on this machine, and print the figures."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUMBERS = (250, 1000, 4000)
SERVER = """
import asyncio

async def answer(reader, writer):
    while True:
        await reader.readuntil(b"\\r\\n\\r\\n")
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 11\\r\\n\\r\\n"
        writer.write(head + b'{"a": 1234}')
        await writer.drain()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def measure(number: int, port: int) -> tuple[float, float]:
    """Run a workflow with so many requests; return its seconds, and the seconds of CPU of all its processes."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = "".join(f"  t{each}: {{type: http, url: 'http://127.0.0.1:{port}/{each}'}}\n" for each in range(number))
        (Path(folder) / "flow.yaml").write_text(f"workflow_name: requests\ntasks:\n{tasks}")
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", "--quiet"]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        print(f"{'tasks':>6} {'seconds':>8} {'a second':>9} {'CPU ms each':>12} {'largest process MB':>19}")
        for number in NUMBERS:
            seconds, cpu = measure(number, port)
            largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
            print(f"{number:6} {seconds:8.2f} {number / seconds:9.0f} {1000 * cpu / number:12.2f} {largest:19}")
    finally:
        server.kill()
        server.wait()
    return 0
