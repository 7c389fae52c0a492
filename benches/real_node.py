"""A node of tmpfs mounts, in namespaces of a script's own, and the program on it: what the scripts here share."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = [(100, 600), (1_000, 3_000)]
LABELS = 5
BINARY = "target/release/disk-usage-exporter"
PORT = 19274
TICKS = os.sysconf("SC_CLK_TCK")


def enter_namespaces():
    """Runs the script again as the first process of namespaces of its own: node_exporter reads /proc/1/mounts."""
    if os.getpid() != 1:
        flags = ["--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child"]
        os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


def uid(number):
    return f"6ad83273-bbc5-4a23-9e8c-{number:012}"


@contextlib.contextmanager
def node(volumes, mounts):
    """Mounts a node's volumes, and what else pods have; gives the objects file of the volumes."""
    with tempfile.TemporaryDirectory() as directory:
        kubelet = Path(directory) / "kubelet"
        try:
            for number in range(mounts):
                kind = f"nfs/pv-{number}" if number < volumes else f"projected/token-{number}"
                path = kubelet / "pods" / uid(number) / f"volumes/kubernetes.io~{kind}"
                path.mkdir(parents=True)
                source = f"server:/export/{number}"
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", source, path], check=True)
            file = Path(directory) / "objects.json"
            file.write_text(objects(volumes))
            yield file
        finally:
            for mountpoint in mountpoints():
                if mountpoint.startswith(str(kubelet)):
                    subprocess.run(["umount", mountpoint], check=True)


def mountpoints():
    return [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]


def objects(volumes):
    """A PersistentVolume, a claim and a pod for each volume, with labels."""

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


def command(binary, objects_file):
    """The program on this node, with metadata if a file is given."""
    return serving(binary, [f"--objects={objects_file}"] if objects_file else ["--kubernetes=off"])


def serving(binary, metadata):
    """The program on this node, with these flags that say where metadata comes from."""
    return [binary, "--rootfs=/", *metadata, "--listen-host=127.0.0.1", f"--listen-port={PORT}"]


class Server:
    """A program that serves /metrics, asked with gzip over one connection."""

    def __init__(self, name, command, port=PORT):
        self.name = name
        self.started = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            try:
                self.body = self.scrape()
                break
            except ConnectionRefusedError:
                self.connection.close()
                if self.process.poll() is not None:
                    sys.exit(f"{name} ended with {self.process.returncode}")
                time.sleep(0.0005)
        self.answered = time.perf_counter()
        if self.process.poll() is not None:
            sys.exit(f"{name} ended with {self.process.returncode}, and something else answered")

    def scrape(self):
        self.connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(f"{self.name} answers {response.status}")
        return body

    def cpu(self):
        """Seconds of CPU time so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak(self):
        """The most memory so far, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait()
