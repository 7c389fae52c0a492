//! A fixture node made by a test.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory in the form of `fixtures/nodes`.
pub(crate) struct Fixture {
    directory: TempDir,
    rows: Vec<Vec<u8>>,
    figures: BTreeMap<String, Value>,
}

/// A pod's uid.
pub(crate) const POD: &str = "6ad83273-bbc5-4a23-9e8c-d796d288e15a";

/// Where an NFS volume of that pod is mounted.
pub(crate) fn mountpoint(pv_name: &str) -> String {
    mountpoint_of(pv_name, POD)
}

/// The same, of any pod.
fn mountpoint_of(pv_name: &str, pod: &str) -> String {
    format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~nfs/{pv_name}")
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture =
            Self { directory: tempfile::tempdir().unwrap(), rows: vec![], figures: BTreeMap::new() };
        fixture.write();
        fixture
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// `--fixture` and its value.
    pub(crate) fn flag(&self) -> String {
        format!("--fixture={}", self.path().display())
    }

    /// Mounts an NFS volume; `record` as in `statvfs.json`.
    pub(crate) fn mount(&mut self, pv_name: &str, record: Value) {
        self.mount_unwritten(pv_name, record);
        self.write();
    }

    /// The same, but only `write` writes it.
    pub(crate) fn mount_unwritten(&mut self, pv_name: &str, record: Value) {
        self.mount_by(pv_name, POD, record);
    }

    /// Mounts a CSI volume.
    pub(crate) fn mount_csi(&mut self, name: &str, pod: &str) {
        let id = 100 + self.rows.len();
        let mountpoint = format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~csi/{name}/mount");
        self.rows.push(format!("{id} 1 0:{id} / {mountpoint} rw - ext4 /dev/sd{id} rw").into_bytes());
        self.figures.insert(mountpoint, answering());
    }

    /// The same, by another pod.
    pub(crate) fn mount_by(&mut self, pv_name: &str, pod: &str, record: Value) {
        let id = 100 + self.rows.len();
        let mountpoint = mountpoint_of(pv_name, pod);
        let row = format!("{id} 1 0:{id} / {mountpoint} rw - nfs4 nas:/{pv_name} rw");
        self.rows.push(row.into_bytes());
        self.figures.insert(mountpoint, record);
    }

    /// Mounts nothing, until `write`.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.figures.clear();
    }

    /// Gives the node objects.
    pub(crate) fn set_objects(&self, objects: &Value) {
        std::fs::write(self.path().join("objects.json"), objects.to_string()).unwrap();
    }

    pub(crate) fn write(&self) {
        std::fs::write(self.path().join("mountinfo"), self.rows.join(&b"\n"[..])).unwrap();
        std::fs::write(self.path().join("statvfs.json"), json!(self.figures).to_string()).unwrap();
    }
}

/// The record of a file system with figures.
pub(crate) fn answering() -> Value {
    json!({"statvfs": {"frsize": 4096, "blocks": 1000, "bfree": 400, "bavail": 300, "files": 50, "ffree": 20}})
}
