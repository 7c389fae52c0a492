//! A fixture node made by a test.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory in the form of `fixtures/nodes`.
pub(crate) struct Fixture {
    directory: TempDir,
    rows: Vec<String>,
    figures: BTreeMap<String, Value>,
}

/// The uid of a pod.
pub(crate) const POD: &str = "6ad83273-bbc5-4a23-9e8c-d796d288e15a";

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(&[])
    }

    /// A node with these NFS volumes; the records are as in `statvfs.json`.
    pub(crate) fn of(volumes: &[(&str, Value)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Self { directory, rows: vec![], figures: BTreeMap::new() };
        for (pv_name, record) in volumes {
            fixture.mount_unwritten(pv_name, record.clone());
        }
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

    /// Mounts an NFS volume.
    pub(crate) fn mount(&mut self, pv_name: &str, record: Value) {
        self.mount_unwritten(pv_name, record);
        self.write();
    }

    /// The same, but only `write` writes it, as for all that follow.
    pub(crate) fn mount_unwritten(&mut self, pv_name: &str, record: Value) {
        self.mount_by(pv_name, POD, record);
    }

    pub(crate) fn mount_by(&mut self, pv_name: &str, pod: &str, record: Value) {
        let device = format!("nfs4 nas:/{pv_name}");
        self.add(&format!("{pod}/volumes/kubernetes.io~nfs/{pv_name}"), &device, record);
    }

    pub(crate) fn mount_csi(&mut self, name: &str, pod: &str) {
        self.add(&format!("{pod}/volumes/kubernetes.io~csi/{name}/mount"), "ext4 /dev/sda", answering());
    }

    fn add(&mut self, path: &str, device: &str, record: Value) {
        let (id, mountpoint) = (100 + self.rows.len(), format!("/var/lib/kubelet/pods/{path}"));
        self.rows.push(format!("{id} 1 0:{id} / {mountpoint} rw - {device} rw"));
        self.figures.insert(mountpoint, record);
    }

    /// Unmounts everything.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.figures.clear();
    }

    /// Gives the node objects.
    pub(crate) fn set_objects(&self, objects: &Value) {
        self.replace("objects.json", &objects.to_string());
    }

    pub(crate) fn write(&self) {
        self.replace("mountinfo", &self.rows.join("\n"));
        self.replace("statvfs.json", &json!(self.figures).to_string());
    }

    /// At once: the program may be reading it.
    fn replace(&self, name: &str, text: &str) {
        let written = self.path().join("new");
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.path().join(name)).unwrap();
    }
}

/// The record of a file system with figures.
pub(crate) fn answering() -> Value {
    json!({"statvfs": {"frsize": 4096, "blocks": 1000, "bfree": 400, "bavail": 300, "files": 50, "ffree": 20}})
}
