#!/usr/bin/env python3
"""What labels from the Kubernetes API cost, beside those of a file and none.

    cargo build --release
    sudo benches/kubernetes.py [--scrapes N] [BINARY]

For 100 volumes among 600 mounts and 1,000 among 3,000 it starts the program without metadata, with an objects file, and
with an API server of its own, over TLS, which has the same objects, and 5 MB of the node's pods. Peak memory is VmHWM after
two clients have scraped in turns while 62 others do not read their answers. It needs openssl.
"""

import argparse
import contextlib
import gzip
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import real_node

# Pods on the node, and the bytes of their events: 20 KB each.
PODS = 250
EVENTS = 5_000_000
SLOW = 62
API_PORT = 19443
NODE = "node-1"
SERVICE_ACCOUNT = Path("/run/secrets/kubernetes.io/serviceaccount")


class ApiServer(http.server.BaseHTTPRequestHandler):
    """Single objects, and a watch that sends the pods of the node, and in which nothing happens then."""

    protocol_version = "HTTP/1.1"
    # Head and body are written apart: together they would wait for each other.
    disable_nagle_algorithm = True
    objects = {}
    events = []
    requests = []

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.requests.append(path)
        if "watch=true" in query:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in self.events:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            threading.Event().wait()
        body = self.objects.get(path)
        self.send_response(200 if body else 404)
        body = body or b'{"kind":"Status","code":404,"reason":"NotFound"}'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def paths(objects):
    """The answers to all that may be asked, and the events of the pods."""
    found, pods, claims = {}, [], []
    for item in objects["items"]:
        metadata = item["metadata"]
        if item["kind"] == "PersistentVolume":
            found[f"/api/v1/persistentvolumes/{metadata['name']}"] = item
            claims.append(item["spec"]["claimRef"]["name"])
        elif item["kind"] == "PersistentVolumeClaim":
            path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
            found[path] = item
        else:
            pods.append(item)
    # Each volume has a pod of its own.
    for pod, claim in zip(pods, claims, strict=True):
        pod["spec"] = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}
    for number in range(len(pods), PODS):
        pods.append({"metadata": {"namespace": "shop", "name": f"other-{number}", "uid": f"other-{number}"}, "spec": {}})
    for pod in pods:
        pod["status"] = {"message": "x" * (EVENTS // len(pods))}
    events = [b'{"type":"ADDED","object":%s}\n' % json.dumps(pod).encode() for pod in pods]
    return {path: json.dumps(item).encode() for path, item in found.items()}, events


def certificates(directory):
    """An authority, and a server's certificate by it."""
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=bench"]
    names = directory / "names"
    names.write_text("subjectAltName=IP:127.0.0.1")
    steps = [
        [*new, "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2"],
        [*new, "-keyout", "server.key", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        + ["-out", "server.crt", "-days", "2", "-extfile", names],
    ]
    for step in steps:
        subprocess.run(step, cwd=directory, check=True, capture_output=True)


@contextlib.contextmanager
def cluster(objects):
    """Serves the objects; the program finds the server as in a pod, by its environment and its service account."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificates(directory)
        ApiServer.objects, ApiServer.events = paths(json.loads(objects.read_text()))
        ApiServer.requests.clear()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", API_PORT), ApiServer)
        server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(directory / "server.crt", directory / "server.key")
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (directory / "token").write_text("t")
        (directory / "namespace").write_text("bench")
        # In a mount namespace of this script's own.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        SERVICE_ACCOUNT.mkdir(parents=True)
        subprocess.run(["mount", "--bind", directory, SERVICE_ACCOUNT], check=True)
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(API_PORT)}
        os.environ.update(environment, NODE_NAME=NODE)
        try:
            yield []
        finally:
            server.shutdown()
            server.server_close()
            for mounted in [SERVICE_ACCOUNT, "/run"]:
                subprocess.run(["umount", mounted], check=True)


def slow_readers():
    """Clients that ask and do not read; the first bytes show that each was answered, and not refused."""
    clients = [socket.create_connection(("127.0.0.1", real_node.PORT)) for _ in range(SLOW)]
    for client in clients:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    return clients


def measure(how, binary, flags, volumes, scrapes):
    server = real_node.Server(how, real_node.serving(binary, flags))
    while gzip.decompress(server.scrape()).count(b"\npv_disk_usage_up{") != volumes:
        time.sleep(0.001)
    shown = time.perf_counter() - server.started
    before = server.cpu()
    for _ in range(scrapes):
        server.scrape()
    cpu = (server.cpu() - before) / scrapes * 1000
    clients = slow_readers()
    other = http.client.HTTPConnection("127.0.0.1", real_node.PORT)
    for _ in range(20):
        server.scrape()
        other.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        other.getresponse().read()
    peak, size = server.peak(), len(server.scrape()) / 1000
    for client in [*clients, other]:
        client.close()
    server.stop()
    print(f"{how:16}{cpu:10.2f}{peak:10.1f}{size:10.1f}{shown * 1000:12.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=real_node.BINARY)
    parser.add_argument("--scrapes", type=int, default=300)
    arguments = parser.parse_args()
    real_node.enter_namespaces()
    # As in the image.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    for volumes, mounts in real_node.SIZES:
        with real_node.node(volumes, mounts) as objects, cluster(objects) as api:
            print(f"\n{volumes} volumes among {mounts} mounts, {arguments.scrapes} scrapes")
            print(f"{'labels from':16}{'CPU ms':>10}{'peak MiB':>10}{'gzip kB':>10}{'shown in ms':>12}")
            ways = [("nowhere", ["--kubernetes=off"]), ("a file", [f"--objects={objects}"]), ("the API", api)]
            for how, flags in ways:
                measure(how, arguments.binary, flags, volumes, arguments.scrapes)
            print(f"{len(ApiServer.requests)} requests")


if __name__ == "__main__":
    main()
