"""Tasks of the example that are Python functions: ordinary ones, jobs.yaml alone makes them tasks."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from pathlib import Path

from jobrunner import current_run


def orders_to_json(source: str) -> dict[str, object]:
    """Write the orders of a CSV file as JSON; how many there were, and their worth."""
    with open(source, newline="", encoding="utf-8") as file:
        orders = list(csv.DictReader(file))
    target = work() / "orders.json"
    target.write_text(json.dumps(orders, indent=2), encoding="utf-8")
    worth = sum(int(order["quantity"]) * float(order["price"]) for order in orders)
    return {"orders": len(orders), "worth": round(worth, 2), "file": str(target)}


def flaky_download() -> str:
    """Fail at the first and the second attempt, as a network does."""
    attempt = current_run().attempt
    if attempt < 3:
        raise ConnectionError(f"the server hung up (attempt {attempt})")
    return f"downloaded at attempt {attempt}"


def resize(width: int) -> dict[str, object]:
    """Scale data/logo.pgm to this width, keeping its proportions."""
    old = read_pgm(Path("data/logo.pgm"))
    height = round(width * len(old) / len(old[0]))
    rows = [old[y * len(old) // height] for y in range(height)]
    new = [[row[x * len(row) // width] for x in range(width)] for row in rows]
    target = work() / f"logo-{width}.pgm"
    target.write_bytes(b"P5 %d %d 9\n" % (width, height) + b"".join(map(bytes, new)))
    return {"file": str(target), "width": width, "height": height}


async def check_ports(host: str, ports: list[int]) -> dict[str, str]:
    """Which of these ports answer."""
    answers = await asyncio.gather(*(knock(host, port) for port in ports))
    return {str(port): "open" if answer else "closed" for port, answer in zip(ports, answers, strict=True)}


async def knock(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout=2)
    except OSError:  # refused, unreachable, or (TimeoutError) silent
        return False
    writer.close()
    await writer.wait_closed()
    return True


def read_pgm(path: Path) -> list[list[int]]:
    """The rows of an ASCII PGM picture."""
    words = [
        word for line in path.read_text().splitlines() if not line.startswith("#") for word in line.split()
    ]
    width, pixels = int(words[1]), [int(word) for word in words[4:]]
    return [pixels[start : start + width] for start in range(0, len(pixels), width)]


def work() -> Path:
    """The folder that the file's `env` names."""
    folder = Path(os.environ["WORK"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder
