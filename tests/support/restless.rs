//! A node on which everything comes and goes: mounts, pods' directories, the kubelet's `vol_data.json`, the file of
//! objects.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::yield_now;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde_json::json;

use super::namespace::{Node, tmpfs};
use super::objects::{bound_volume, nfs};

/// Volumes that may be there.
const VOLUMES: usize = 12;
const DRIVER: &str = "csi.example.com";

/// A node, and what is true of it while nothing acts on it.
pub(crate) struct Restless<'a> {
    node: &'a Node,
    random: u64,
    /// Which volumes are mounted.
    mounted: [bool; VOLUMES],
    /// The number in the names of claims in the file of objects; `None` where it cannot be read as one.
    pub(crate) objects: Option<u32>,
    versions: u32,
    pub(crate) acts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nfs,
    Csi,
    /// A pod's own: no `PersistentVolume`.
    Inline,
}

impl<'a> Restless<'a> {
    /// All volumes mounted, all objects known.
    pub(crate) fn new(node: &'a Node, seed: u64) -> Self {
        let mut new =
            Self { node, random: seed, mounted: [false; VOLUMES], objects: None, versions: 0, acts: 0 };
        new.settle();
        new
    }

    /// Goes back to the state of the beginning.
    pub(crate) fn settle(&mut self) {
        for volume in 0..VOLUMES {
            if !self.mounted[volume] {
                self.mount(volume);
            }
        }
        self.replace_objects();
    }

    /// The file of objects.
    pub(crate) fn objects_path(&self) -> PathBuf {
        self.node.path().join("objects.json")
    }

    /// The volumes that must be exposed, and where each is mounted.
    pub(crate) fn volumes(&self) -> BTreeMap<String, PathBuf> {
        let shown = (0..VOLUMES).filter(|volume| self.mounted[*volume] && kind(*volume) != Kind::Inline);
        shown.map(|volume| (name(volume), self.mountpoint(volume))).collect()
    }

    /// Does something that happens on nodes.
    pub(crate) fn act(&mut self) {
        self.acts += 1;
        let volume = self.pick(VOLUMES);
        match self.pick(20) {
            0 => self.rewrite_objects(),
            1 => self.replace_objects(),
            2 => self.spoil_objects(),
            3 if self.mounted[volume] => self.mount_twice(volume),
            4 if self.mounted[volume] => self.fill(volume),
            _ if self.mounted[volume] => self.unmount(volume),
            _ => self.mount(volume),
        }
    }

    /// A number below `end`: xorshift.
    fn pick(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % end
    }

    fn directory(&self, volume: usize) -> PathBuf {
        let plugin = if kind(volume) == Kind::Nfs { "nfs" } else { "csi" };
        self.node.volume(&pod(volume), plugin, &name(volume))
    }

    fn mountpoint(&self, volume: usize) -> PathBuf {
        let directory = self.directory(volume);
        if kind(volume) == Kind::Nfs { directory } else { directory.join("mount") }
    }

    /// As the kubelet does it, but `vol_data.json` comes late and in pieces now and then.
    fn mount(&mut self, volume: usize) {
        let mountpoint = self.mountpoint(volume);
        fs::create_dir_all(&mountpoint).unwrap();
        let vol_data = vol_data(volume);
        let early = self.pick(vol_data.len() + 1);
        let path = self.directory(volume).join("vol_data.json");
        let has_vol_data = kind(volume) != Kind::Nfs;
        if has_vol_data && early > 0 {
            fs::write(&path, &vol_data[..early]).unwrap();
        }
        tmpfs(&mountpoint, "size=1m");
        yield_now();
        if has_vol_data {
            fs::write(&path, vol_data).unwrap();
        }
        self.mounted[volume] = true;
    }

    /// `vol_data.json` goes first and the pod's directory last, so that there are mounts without it.
    fn unmount(&mut self, volume: usize) {
        let _ = fs::remove_file(self.directory(volume).join("vol_data.json"));
        unmount(&self.mountpoint(volume));
        fs::remove_dir_all(self.node.kubelet().join("pods").join(pod(volume))).unwrap();
        self.mounted[volume] = false;
    }

    /// A mount over a mount, for a moment.
    fn mount_twice(&self, volume: usize) {
        let mountpoint = self.mountpoint(volume);
        tmpfs(&mountpoint, "size=2m");
        yield_now();
        unmount(&mountpoint);
    }

    fn fill(&mut self, volume: usize) {
        let bytes = vec![1; self.pick(1 << 18)];
        fs::write(self.mountpoint(volume).join("file"), bytes).unwrap();
    }

    fn new_objects(&mut self) -> String {
        self.versions += 1;
        self.objects = Some(self.versions);
        objects(self.versions)
    }

    /// In place, so that a reader may see half of it.
    fn rewrite_objects(&mut self) {
        let text = self.new_objects();
        let (begin, rest) = text.split_at(self.pick(text.len()));
        let mut file = fs::File::create(self.objects_path()).unwrap();
        file.write_all(begin.as_bytes()).unwrap();
        yield_now();
        file.write_all(rest.as_bytes()).unwrap();
    }

    fn replace_objects(&mut self) {
        let new = self.node.path().join("objects.new");
        fs::write(&new, self.new_objects()).unwrap();
        fs::rename(new, self.objects_path()).unwrap();
    }

    fn spoil_objects(&mut self) {
        let path = self.objects_path();
        match self.pick(3) {
            0 => drop(fs::remove_file(path)),
            1 => fs::write(path, "{\"kind\": \"List\", \"items\": [").unwrap(),
            _ => fs::write(path, "{\"kind\": \"NodeList\", \"items\": [{\"kind\": \"Node\"}]}").unwrap(),
        }
        self.objects = None;
    }
}

/// Waits while the volume is being measured, and so busy.
fn unmount(path: &Path) {
    while let Err(error) = umount2(path, MntFlags::empty()) {
        assert_eq!(error, Errno::EBUSY, "{}", path.display());
        yield_now();
    }
}

fn kind(volume: usize) -> Kind {
    [Kind::Nfs, Kind::Nfs, Kind::Inline, Kind::Csi, Kind::Csi, Kind::Csi][volume % 6]
}

fn name(volume: usize) -> String {
    format!("pv-{volume:02}")
}

fn pod(volume: usize) -> String {
    format!("6ad83273-bbc5-4a23-9e8c-{volume:012}")
}

fn vol_data(volume: usize) -> String {
    let mode = if kind(volume) == Kind::Inline { "Ephemeral" } else { "Persistent" };
    json!({"driverName": DRIVER, "volumeHandle": format!("handle-{volume}"), "specVolID": name(volume),
        "volumeLifecycleMode": mode})
    .to_string()
}

/// The claims' names carry the version.
fn objects(version: u32) -> String {
    let volumes = (0..VOLUMES).filter(|volume| kind(*volume) != Kind::Inline);
    let items = volumes.flat_map(|volume| {
        let csi = json!({"csi": {"driver": DRIVER, "volumeHandle": format!("handle-{volume}")}});
        let source = if kind(volume) == Kind::Nfs { nfs(&name(volume)) } else { csi };
        bound_volume(&name(volume), source, &format!("claim-{version}-{volume}"), &pod(volume))
    });
    json!({"kind": "List", "items": items.collect::<Vec<_>>()}).to_string()
}
