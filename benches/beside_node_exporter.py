#!/usr/bin/env python3
"""What a scrape costs this program and node_exporter, on the same mounts, in one run.

    cargo build --release
    sudo benches/beside_node_exporter.py [target/release/disk-usage-exporter] [--scrapes N]

For 100 volumes among 600 mounts and 1,000 among 3,000 (all tmpfs, in a mount namespace of its own) it starts both,
node_exporter with its file-system collector alone and everything but the volumes excluded, and asks them in turns, with
gzip, over one connection each. This program also has an objects file: five labels on each PersistentVolume and five on
each claim. CPU is the process's own time, user and system; the peak is VmHWM.
"""

import argparse
import gzip
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = [(100, 600), (1_000, 3_000)]
LABELS = 5
ROUNDS = 10
WARM_UP = 20
TICKS = os.sysconf("SC_CLK_TCK")
HEADERS = {"Accept-Encoding": "gzip"}


def enter_namespace():
    """Runs this script again as the first process of namespaces of its own: node_exporter reads /proc/1/mounts."""
    if os.getpid() == 1:
        return
    flags = ["--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child"]
    os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


def uid(number):
    return f"6ad83273-bbc5-4a23-9e8c-{number:012}"


def mount_node(kubelet, volumes, mounts):
    """Volumes first, then what else pods have: service account tokens and the like."""
    for number in range(mounts):
        kind = f"nfs/pv-{number}" if number < volumes else f"projected/token-{number}"
        path = kubelet / "pods" / uid(number) / f"volumes/kubernetes.io~{kind}"
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", f"server:/export/{number}", path], check=True)


def unmount_node(kubelet):
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mountpoint = line.split()[1]
        if mountpoint.startswith(str(kubelet)):
            subprocess.run(["umount", mountpoint], check=True)


def objects(volumes):
    def labels(kind):
        return {f"example.com/{kind}-{i}": f"value-{i}" for i in range(LABELS)}

    items = []
    for number in range(volumes):
        claim = {"namespace": "shop", "name": f"claim-{number}"}
        source = {"server": "server", "path": f"/export/{number}"}
        pv = {"metadata": {"name": f"pv-{number}", "labels": labels("pv")}, "spec": {"claimRef": claim, "nfs": source}}
        spec = {"resources": {"requests": {"storage": "1Mi"}}}
        pod = {"namespace": "shop", "name": f"pod-{number}", "uid": uid(number)}
        items += [
            {"kind": "PersistentVolume", **pv},
            {"kind": "PersistentVolumeClaim", "metadata": {**claim, "labels": labels("pvc")}, "spec": spec},
            {"kind": "Pod", "metadata": pod, "spec": {}},
        ]
    return json.dumps({"items": items})


class Server:
    """A program that serves /metrics, and what it cost so far."""

    def __init__(self, name, command, port):
        self.name, self.latencies, self.cpu = name, [], 0.0
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.body = self.scrape()
                break
            except ConnectionRefusedError:
                self.connection.close()
                if time.monotonic() > deadline:
                    sys.exit(f"{name} does not listen")
                time.sleep(0.01)

    def scrape(self):
        self.connection.request("GET", "/metrics", headers=HEADERS)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(f"{self.name} answers {response.status}")
        return body

    def used(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def measure(self, scrapes):
        before = self.used()
        for _ in range(scrapes):
            start = time.perf_counter()
            self.scrape()
            self.latencies.append(time.perf_counter() - start)
        self.cpu += self.used() - before

    def stop(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024
        self.process.terminate()
        self.process.wait()


def series(body):
    lines = gzip.decompress(body).splitlines()
    return sum(1 for line in lines if re.match(rb"(pv_disk_usage|node_filesystem)_", line))


def compare(binary, volumes, mounts, scrapes):
    with tempfile.TemporaryDirectory() as directory:
        kubelet = Path(directory) / "kubelet"
        others = [re.escape(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
        mount_node(kubelet, volumes, mounts)
        file = Path(directory) / "objects.json"
        file.write_text(objects(volumes))
        ours = [binary, "--rootfs=/", f"--objects={file}", "--pv-labels=*", "--pvc-labels=*"]
        ours += ["--listen-host=127.0.0.1", "--listen-port=19274"]
        excluded = f"^({'|'.join(others)})$|~projected/"
        theirs = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.filesystem"]
        theirs += ["--collector.filesystem.fs-types-exclude=^$", "--web.listen-address=127.0.0.1:19100"]
        theirs += [f"--collector.filesystem.mount-points-exclude={excluded}", "--web.disable-exporter-metrics"]
        servers = [Server("disk-usage-exporter", ours, 19274), Server("node_exporter", theirs, 19100)]
        for server in servers:
            for _ in range(WARM_UP):
                server.scrape()
        for _ in range(ROUNDS):
            for server in servers:
                server.measure(scrapes // ROUNDS)
        for server in servers:
            server.stop()
        unmount_node(kubelet)
    report(volumes, mounts, scrapes, servers)


def report(volumes, mounts, scrapes, servers):
    print(f"\n{volumes} volumes among {mounts} mounts, {scrapes} scrapes each")
    print(f"{'':22}{'CPU ms':>10}{'median ms':>11}{'p99 ms':>10}{'peak MiB':>10}{'series':>8}{'gzip kB':>9}")
    rows = []
    for server in servers:
        latencies = sorted(server.latencies)
        p99 = latencies[int(len(latencies) * 0.99) - 1]
        median = statistics.median(latencies)
        cpu = server.cpu / len(latencies)
        rows.append((cpu * 1000, median * 1000, p99 * 1000, server.peak, series(server.body), len(server.body) / 1000))
        cells = "{:10.2f}{:11.2f}{:10.2f}{:10.1f}{:8}{:9.1f}".format(*rows[-1])
        print(f"{server.name:22}{cells}")
    ratios = [ours / theirs for ours, theirs in zip(*rows)]
    print("{:22}{:10.2f}{:11.2f}{:10.2f}{:10.2f}{:8.2f}{:9.2f}".format("ratio", *ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default="target/release/disk-usage-exporter")
    parser.add_argument("--scrapes", type=int, default=500)
    arguments = parser.parse_args()
    if arguments.scrapes < ROUNDS:
        parser.error(f"--scrapes must be {ROUNDS} at least")
    enter_namespace()
    for volumes, mounts in SIZES:
        compare(arguments.binary, volumes, mounts, arguments.scrapes)


if __name__ == "__main__":
    main()
