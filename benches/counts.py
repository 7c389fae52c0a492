#!/usr/bin/env python3
"""What a scrape does, counted and so the same on every machine: system calls, by strace; memory allocated, by valgrind.

    cargo build --release
    sudo benches/counts.py [BINARY]

Both are the difference between many scrapes and few, divided by how many more they are: what the program does once is
not in it. strace leaves the calls that measure the volumes to their own, faster run, for it would slow them down until
the program takes more threads for them than it otherwise does.
"""

import argparse
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import real_node

MEASURING = ["statx", "statfs"]
SCRAPES = 200


def system_calls(server, which):
    """Calls during some scrapes, by name."""
    with tempfile.NamedTemporaryFile("r") as counts:
        trace = ["strace", "--follow-forks", "--seccomp-bpf", "--summary-only", f"--output={counts.name}"]
        tracer = subprocess.Popen(
            [*trace, f"--trace={which}", f"--attach={server.process.pid}"], stderr=subprocess.PIPE, text=True
        )
        # It says when it counts.
        tracer.stderr.readline()
        for _ in range(SCRAPES):
            server.scrape()
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        rows = (line.split() for line in counts)
        return {row[-1]: int(row[3]) for row in rows if row and re.fullmatch(r"[\d.]+", row[0]) and row[-1] != "total"}


def allocated(binary, objects, scrapes):
    """Bytes and blocks that valgrind counts until the program ends after some scrapes."""
    with tempfile.TemporaryDirectory() as directory:
        valgrind = ["valgrind", "--tool=dhat", f"--dhat-out-file={directory}/dhat", f"--log-file={directory}/log"]
        server = real_node.Server("valgrind", [*valgrind, *real_node.command(binary, objects)])
        for _ in range(scrapes):
            server.scrape()
        server.stop()
        total = re.search(r"Total:\s+([\d,]+) bytes in ([\d,]+) blocks", Path(f"{directory}/log").read_text())
        return [int(number.replace(",", "")) for number in total.groups()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    binary = parser.parse_args().binary
    real_node.enter_namespaces()
    for volumes, mounts in real_node.SIZES:
        with real_node.node(volumes, mounts) as objects:
            server = real_node.Server("disk-usage-exporter", real_node.command(binary, objects))
            time.sleep(0.1)
            measuring = system_calls(server, ",".join(MEASURING))
            others = system_calls(server, "!" + ",".join(MEASURING))
            server.stop()
            few, many = (allocated(binary, objects, scrapes) for scrapes in (20, 40))
        print(f"\n{volumes} volumes among {mounts} mounts, a scrape:")
        print(f"  system calls that measure: {sum(measuring.values()) / SCRAPES / volumes:.2f} a volume")
        each = ", ".join(f"{name} {count / SCRAPES:.1f}" for name, count in others.items() if count * 10 >= SCRAPES)
        print(f"  other system calls: {sum(others.values()) / SCRAPES:.1f} ({each})")
        size, blocks = ((after - before) / 20 for before, after in zip(few, many))
        print(f"  allocated: {size / 1000:.0f} kB in {blocks:.0f} blocks")


if __name__ == "__main__":
    main()
