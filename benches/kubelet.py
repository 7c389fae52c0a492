#!/usr/bin/env python3
"""What reading the kubelet's summary costs, and serving it.

    cargo build --release
    benches/kubelet.py [--scrapes N] [BINARY]

A kubelet of the script's own answers over TLS, in the kubelet's indented form, with the volumes of 100 claims in 25 pods,
and of 1,000 in 250: 1 MB. The program is asked with gzip, with one series a claim and pod, first with an answer that stays
good, then with one that is old at each scrape. Peak memory is VmHWM after both. It needs openssl.
"""

import argparse
import datetime
import gzip
import http.server
import json
import os
import ssl
import tempfile
import threading
from pathlib import Path

import kubernetes
import real_node

VOLUMES_A_POD = 4
KUBELET_PORT = 19250


def summary(volumes):
    """The kubelet's answer, of this moment."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    figures = {"availableBytes": 77244313600, "capacityBytes": 270553174016, "usedBytes": 20328435712}
    inodes = {"inodesFree": 16245799, "inodes": 16777216, "inodesUsed": 531417}
    usage = {"time": now, **figures, **inodes}
    memory = {"time": now, "availableBytes": 0, "usageBytes": 212992, "workingSetBytes": 212992, "rssBytes": 45056}
    pods = []
    for number in range(volumes // VOLUMES_A_POD):
        claims = range(number * VOLUMES_A_POD, (number + 1) * VOLUMES_A_POD)
        container = {"name": "c", "startTime": now, "memory": memory, "rootfs": usage, "logs": usage, "cpu": memory}
        # A container and its helper.
        pod = {
            "podRef": {"name": f"web-{number}", "namespace": "shop", "uid": real_node.uid(number)},
            "startTime": now,
            "containers": [container, container],
            "memory": memory,
            "volume": [
                {**usage, "name": f"data-{claim}", "pvcRef": {"name": f"claim-{claim}", "namespace": "shop"}}
                for claim in claims
            ],
            "ephemeral-storage": usage,
        }
        pods.append(pod)
    return json.dumps({"node": {"nodeName": "node-1"}, "pods": pods}, indent=1).encode()


class Kubelet(http.server.BaseHTTPRequestHandler):
    """One page."""

    disable_nagle_algorithm = True
    body = b""
    requests = 0

    def do_GET(self):
        Kubelet.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


def serve(directory):
    kubernetes.certificates(directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", KUBELET_PORT), Kubelet)
    server.daemon_threads = True
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / "server.crt", directory / "server.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def cpu(server, scrapes):
    """Milliseconds of CPU a scrape."""
    before = server.cpu()
    for _ in range(scrapes):
        body = server.scrape()
    return (server.cpu() - before) / scrapes * 1000, body


def measure(binary, directory, volumes, scrapes):
    Kubelet.body = summary(volumes)
    flags = [
        f"--kubelet-endpoint=https://127.0.0.1:{KUBELET_PORT}",
        f"--kubelet-ca-file={directory / 'ca.crt'}",
        "--kubelet-volume-stats-labels=pod",
        "--listen-host=127.0.0.1",
        f"--listen-port={real_node.PORT}",
    ]
    figures, peak = [], 0
    for interval in ["1h", "1ns"]:
        server = real_node.Server(f"interval {interval}", [binary, *flags, f"--scrape-interval={interval}"])
        before = Kubelet.requests
        taken, body = cpu(server, scrapes)
        series = gzip.decompress(body).count(b"\nkubelet_volume_stats_capacity_bytes{")
        assert series == volumes, f"{series} volumes"
        assert Kubelet.requests - before == (scrapes if interval == "1ns" else 0)
        figures.append(taken)
        peak = max(peak, server.peak())
        server.stop()
    cached, fresh = figures
    print(f"{volumes:8}{len(Kubelet.body) / 1000:10.0f}{cached:12.2f}{fresh - cached:12.2f}{peak:10.1f}{len(body) / 1000:10.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    parser.add_argument("--scrapes", type=int, default=300)
    arguments = parser.parse_args()
    # As in the image.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        serve(directory)
        print(f"{'volumes':>8}{'answer kB':>10}{'scrape ms':>12}{'refresh ms':>12}{'peak MiB':>10}{'gzip kB':>10}")
        for volumes, _ in real_node.SIZES:
            measure(arguments.binary, directory, volumes, arguments.scrapes)


if __name__ == "__main__":
    main()
