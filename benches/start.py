#!/usr/bin/env python3
"""How long the program takes from its start to its first answered scrape with 1,000 volumes, and its size.

    cargo build --release
    sudo benches/start.py [--times N] [BINARY]

On a busy machine the CPU time, up to the answer, tells more than the time that passed.
"""

import argparse
import os
import statistics

import real_node


def start(binary, objects):
    server = real_node.Server("disk-usage-exporter", real_node.command(binary, objects))
    took = (server.answered - server.started) * 1000, server.cpu() * 1000
    server.stop()
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    parser.add_argument("--times", type=int, default=20)
    arguments = parser.parse_args()
    real_node.enter_namespaces()
    volumes, mounts = real_node.SIZES[-1]
    with real_node.node(volumes, mounts) as objects:
        for how, file in [("without metadata", None), ("with metadata", objects)]:
            passed, cpu = zip(*(start(arguments.binary, file) for _ in range(arguments.times)))
            print(
                f"{volumes} volumes {how}, start to the first answer, {arguments.times} times: median "
                f"{statistics.median(passed):.0f} ms, most {max(passed):.0f} ms, CPU {statistics.mean(cpu):.0f} ms"
            )
    print(f"size: {os.path.getsize(arguments.binary):,} bytes")


if __name__ == "__main__":
    main()
