#!/usr/bin/env python3
"""What a scrape does, counted: system calls, by strace; memory allocated, by valgrind.

    cargo build --release
    sudo benches/counts.py [BINARY]

Both are the difference between a run of many scrapes and one of few, divided by how many more they are: what the
program does once is not in it. strace leaves the calls that measure the volumes to a run of their own: it would slow
them down until the program takes more threads for them than it otherwise does.
"""

import argparse
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import real_node

MEASURING = "statx,statfs"
SCRAPES = (20, 120)


def run(wrapper, binary, objects, scrapes):
    """Some scrapes of the program below another one."""
    server = real_node.Server(wrapper[0], [*wrapper, *real_node.command(binary, objects)])
    for _ in range(scrapes):
        server.scrape()
    server.stop()


def finished(file, mark):
    """What a tool has written when it is done: it may be so a moment after the program."""
    deadline = time.monotonic() + 10
    while not (file.exists() and re.search(mark, file.read_text())):
        if time.monotonic() > deadline:
            raise SystemExit(f"no {mark} in {file}")
        time.sleep(0.01)
    return file.read_text()


def system_calls(which, binary, objects, scrapes):
    """The calls of these kinds, by name."""
    with tempfile.TemporaryDirectory() as directory:
        counts = Path(directory) / "counts"
        strace = ["strace", "--daemonize", "--follow-forks", "--seccomp-bpf", "--summary-only", f"--trace={which}"]
        run([*strace, f"--output={counts}"], binary, objects, scrapes)
        rows = (line.split() for line in finished(counts, r" total\n").splitlines())
        return Counter({row[-1]: int(row[3]) for row in rows if re.match(r"\d", " ".join(row)) and row[-1] != "total"})


def allocated(binary, objects, scrapes):
    """Bytes, and blocks."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        run(["valgrind", "--tool=dhat", f"--dhat-out-file={directory}/dhat", f"--log-file={log}"], binary, objects, scrapes)
        total = re.search(r"Total:\s+([\d,]+) bytes in ([\d,]+) blocks", finished(log, "Total:.*\n"))
        size, blocks = (int(number.replace(",", "")) for number in total.groups())
        return Counter(bytes=size, blocks=blocks)


def each(count, *arguments):
    """What one more scrape counts."""
    few, many = (count(*arguments, scrapes) for scrapes in SCRAPES)
    return {name: (many[name] - few[name]) / (SCRAPES[1] - SCRAPES[0]) for name in many}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    binary = parser.parse_args().binary
    real_node.enter_namespaces()
    for volumes, mounts in real_node.SIZES:
        with real_node.node(volumes, mounts) as objects:
            measuring = each(system_calls, MEASURING, binary, objects)
            others = each(system_calls, f"!{MEASURING}", binary, objects)
            memory = each(allocated, binary, objects)
        print(f"\n{volumes} volumes among {mounts} mounts, a scrape:")
        print(f"  system calls that measure: {sum(measuring.values()):.1f}")
        named = ", ".join(f"{name} {count:.1f}" for name, count in others.items() if count >= 0.1)
        print(f"  other system calls: {sum(others.values()):.1f} ({named})")
        print(f"  allocated: {memory['bytes'] / 1000:.0f} kB in {memory['blocks']:.0f} blocks")


if __name__ == "__main__":
    main()
