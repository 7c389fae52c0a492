#!/usr/bin/env python3
"""Whether the program does nothing while nobody asks: the system calls that it makes in a minute after a scrape.

    cargo build --release
    sudo benches/idle.py [--seconds N] [BINARY]

The exit code is 0 if there is none. It is traced from its start on: attaching to a program that sleeps wakes it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import real_node


def quiet(trace):
    """How much is traced once what the scrape's end causes is over."""
    size = -1
    while size != trace.stat().st_size:
        size = trace.stat().st_size
        time.sleep(1)
    return size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    real_node.enter_namespaces()
    volumes, mounts = real_node.SIZES[0]
    with real_node.node(volumes, mounts) as objects, tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace"
        strace = ["strace", "--daemonize", "--follow-forks", "--absolute-timestamps", f"--output={trace}"]
        server = real_node.Server("strace", [*strace, *real_node.command(arguments.binary, objects)])
        server.connection.close()
        before = quiet(trace)
        time.sleep(arguments.seconds)
        calls = trace.read_bytes()[before:]
        server.scrape()
        time.sleep(1)
        traced = trace.stat().st_size > before + len(calls)
        server.stop()
    sys.stdout.write(calls.decode())
    print(f"{len(calls.splitlines())} system calls in {arguments.seconds} s, after a scrape of {volumes} volumes")
    if calls or not traced:
        sys.exit("it is not idle" if calls else "nothing is traced")


if __name__ == "__main__":
    main()
