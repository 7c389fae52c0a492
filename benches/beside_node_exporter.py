#!/usr/bin/env python3
"""What a scrape costs this program and node_exporter, on the same mounts, in one run.

    cargo build --release
    sudo benches/beside_node_exporter.py [--scrapes N] [BINARY]

For 100 volumes among 600 mounts and 1,000 among 3,000 (all tmpfs, in a mount namespace of its own) it starts both,
node_exporter with its file-system collector alone and everything but the volumes excluded, and asks them in turns, with
gzip, over one connection each. This program also has an objects file: five labels on each PersistentVolume and five on
each claim. CPU is the process's own time, user and system; the peak is VmHWM.
"""

import argparse
import gzip
import re
import statistics
import time

import real_node

ROUNDS = 10
# Longer than this program's minimum interval between collections, which is not to be measured.
PAUSE = 0.12
WARM_UP = 20


class Measured(real_node.Server):
    """A server, and what its scrapes cost."""

    def __init__(self, name, command, port):
        super().__init__(name, command, port)
        self.latencies, self.used = [], 0.0
        for _ in range(WARM_UP):
            self.scrape()

    def measure(self, scrapes):
        before = self.cpu()
        for _ in range(scrapes):
            time.sleep(PAUSE)
            start = time.perf_counter()
            self.scrape()
            self.latencies.append(time.perf_counter() - start)
        self.used += self.cpu() - before

    def row(self):
        latencies = sorted(self.latencies)
        lines = gzip.decompress(self.body).splitlines()
        series = sum(1 for line in lines if re.match(rb"(pv_disk_usage|node_filesystem)_", line))
        return (
            self.used / len(latencies) * 1000,
            statistics.median(latencies) * 1000,
            latencies[int(len(latencies) * 0.99) - 1] * 1000,
            self.peak(),
            series,
            len(self.body) / 1000,
        )


def node_exporter(excluded, port):
    excluded = f"^({'|'.join(map(re.escape, excluded))})$|~projected/"
    return [
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.filesystem",
        "--collector.filesystem.fs-types-exclude=^$",
        f"--collector.filesystem.mount-points-exclude={excluded}",
        "--web.disable-exporter-metrics",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def compare(binary, volumes, mounts, scrapes):
    others = real_node.mountpoints()
    with real_node.node(volumes, mounts) as objects:
        servers = [
            Measured("disk-usage-exporter", real_node.command(binary, objects), real_node.PORT),
            Measured("node_exporter", node_exporter(others, real_node.PORT + 1), real_node.PORT + 1),
        ]
        for _ in range(ROUNDS):
            for server in servers:
                server.measure(scrapes // ROUNDS)
        rows = [server.row() for server in servers]
        for server in servers:
            server.stop()
    print(f"\n{volumes} volumes among {mounts} mounts, {scrapes} scrapes each")
    print(f"{'':22}{'CPU ms':>10}{'median ms':>11}{'p99 ms':>10}{'peak MiB':>10}{'series':>8}{'gzip kB':>9}")
    for server, row in zip(servers, rows):
        print("{:22}{:10.2f}{:11.2f}{:10.2f}{:10.1f}{:8}{:9.1f}".format(server.name, *row))
    ratios = [ours / theirs for ours, theirs in zip(*rows)]
    print("{:22}{:10.2f}{:11.2f}{:10.2f}{:10.2f}{:8.2f}{:9.2f}".format("ratio", *ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    parser.add_argument("--scrapes", type=int, default=500)
    arguments = parser.parse_args()
    if arguments.scrapes < ROUNDS:
        parser.error(f"--scrapes must be {ROUNDS} at least")
    real_node.enter_namespaces()
    for volumes, mounts in real_node.SIZES:
        compare(arguments.binary, volumes, mounts, arguments.scrapes)


if __name__ == "__main__":
    main()
