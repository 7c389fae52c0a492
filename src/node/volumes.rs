//! The mounts that are volumes, kept from one reading of the table to the next.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::block::{self, UnnamedDevice};
use super::discovery::{Candidate, Detail};
use super::paths::Rootfs;
use super::vol_data;
use crate::volume::Mount;

/// Every mount of the last reading that looks like a volume.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    /// A `PersistentVolume`, or a pod's own volume that only the pod object tells from one.
    Volume(Arc<Mount>),
    /// Certainly a pod's own volume.
    Inline,
    /// The file that tells the rest could not be read: asked again at the next scrape, until then known by
    /// its path alone.
    Unknown(Option<Arc<Mount>>),
}

impl Volumes {
    /// Takes a new reading; what is known of mounts that are still there stays known.
    pub(crate) fn replace(&mut self, candidates: Vec<Candidate>, rootfs: &Rootfs) {
        let before = std::mem::take(&mut self.entries);
        let known: HashMap<_, &Outcome> =
            before.iter().map(|entry| (entry.candidate.mount.identity(), &entry.outcome)).collect();
        self.entries = candidates
            .into_iter()
            .map(|candidate| {
                let outcome = match known.get(&candidate.mount.identity()) {
                    Some(Outcome::Volume(before)) => Outcome::Volume(renewed(&candidate, before)),
                    Some(Outcome::Inline) => Outcome::Inline,
                    Some(Outcome::Unknown(_)) | None => resolve(&candidate, rootfs),
                };
                Entry { candidate, outcome }
            })
            .collect();
    }

    /// Asks again for what could not be told before.
    pub(crate) fn retry(&mut self, rootfs: &Rootfs) {
        for entry in &mut self.entries {
            if matches!(entry.outcome, Outcome::Unknown(_)) {
                entry.outcome = resolve(&entry.candidate, rootfs);
            }
        }
    }

    /// The mounts, in the table's order.
    pub(crate) fn mounts(&self) -> Vec<Arc<Mount>> {
        let known = self.entries.iter().filter_map(|entry| match &entry.outcome {
            Outcome::Volume(mount) | Outcome::Unknown(Some(mount)) => Some(mount),
            Outcome::Inline | Outcome::Unknown(None) => None,
        });
        known.cloned().collect()
    }

    /// Where something that looks like a volume is mounted.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &PathBuf> {
        self.entries.iter().map(|entry| &entry.candidate.mount.mountpoint)
    }
}

/// The new row with what the files told of it before; the same one if nothing else is new.
fn renewed(candidate: &Candidate, before: &Arc<Mount>) -> Arc<Mount> {
    let renewed = Mount { name: before.name.clone(), csi: before.csi.clone(), ..candidate.mount.clone() };
    if renewed == **before { Arc::clone(before) } else { Arc::new(renewed) }
}

fn resolve(candidate: &Candidate, rootfs: &Rootfs) -> Outcome {
    let mount = &candidate.mount;
    match &candidate.detail {
        Detail::Complete => Outcome::Volume(Arc::new(mount.clone())),
        Detail::VolData(path) => match vol_data::read(&rootfs.join(path)) {
            None => Outcome::Unknown(Some(Arc::new(mount.clone()))),
            Some(data) if data.ephemeral => Outcome::Inline,
            Some(data) => Outcome::Volume(Arc::new(Mount {
                name: data.name.unwrap_or_else(|| mount.name.clone()),
                csi: Some(data.csi),
                ..mount.clone()
            })),
        },
        Detail::Links(kubelet_root) => {
            let device = UnnamedDevice {
                kubelet_root,
                plugin: mount.plugin.as_bytes(),
                pod_uid: mount.pod_uid.as_deref().unwrap_or_default().as_bytes(),
                mountpoint: &mount.mountpoint,
                root: mount.root.as_deref().map(std::os::unix::ffi::OsStrExt::as_bytes),
            };
            block::name(&device, rootfs).map_or(Outcome::Unknown(None), |name| {
                Outcome::Volume(Arc::new(Mount {
                    name: String::from_utf8_lossy(&name).into_owned(),
                    ..mount.clone()
                }))
            })
        }
    }
}
