//! Objects from a file: what `kubectl get pv,pvc,pods -A -o json` printed.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::pod_index::PodIndex;
use super::slim_pod::SlimPod;
use super::{Selections, convert};
use crate::runtime::{BlockingWorker, Deadline, Job};
use crate::volume::{self, Claim, ClaimKey, Lookup, Metadata, SourceStatus, VolumeMetadata};

/// Lists of lists are read to this depth.
const MAX_DEPTH: usize = 16;

/// How long a collection waits for a changed file: a large one is used from the next collection on.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// How long reading may take before the file counts as one that cannot be read.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// A file of objects, read again when it changes. It may be on a file system that hangs.
#[derive(Debug)]
pub struct ObjectsFile {
    path: PathBuf,
    selections: Selections,
    worker: BlockingWorker,
    /// The reading that has not ended yet, and when it began.
    reading: Option<(Job<Option<Reading>>, Instant)>,
    /// What the file was when it was read last, used or not.
    stamp: Option<Stamp>,
    hung_after: Duration,
    metadata: watch::Sender<Arc<Metadata>>,
}

type Reading = (Option<Stamp>, Result<Metadata, ObjectsError>);

/// What changes when a file does.
type Stamp = (u64, u64, u64, i64, i64);

/// A file that has no Kubernetes objects.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// Reading it does not end.
    #[error("reading {0} does not end: is its file system there?")]
    Hung(PathBuf),
    /// Reading it panicked.
    #[error("a fault of this program while it read {0}; the log tells it")]
    Panicked(PathBuf),
    /// It is no JSON.
    #[error("{0} is not JSON: {1}; make it by `kubectl get pv,pvc,pods -A -o json`")]
    Json(PathBuf, #[source] serde_json::Error),
    /// It is JSON of something else.
    #[error(
        "{0} has no PersistentVolume, PersistentVolumeClaim or Pod, but {1:?}…; make the file by `kubectl get pv,pvc,pods -A -o json`"
    )]
    NoObjects(PathBuf, String),
}

impl ObjectsFile {
    /// Reads the file, the first time in place.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or holds no Kubernetes objects. An object that does not parse only loses itself.
    pub fn open(path: &Path, selections: Selections, worker: &BlockingWorker) -> Result<Self, ObjectsError> {
        let stamp = stamp(path);
        let metadata = watch::Sender::new(Arc::new(read(path, &selections)?));
        let (path, worker) = (path.to_owned(), worker.clone());
        Ok(Self { path, selections, worker, reading: None, stamp, hung_after: HUNG_AFTER, metadata })
    }

    /// What the file says, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Metadata>> {
        self.metadata.subscribe()
    }

    /// Publishes what the file says now. If it can no longer be read, what it said last stays: labels must not flap.
    pub(super) fn refresh(&mut self) {
        let (job, since, wait) = match self.reading.take() {
            Some((job, since)) => (job, since, Duration::ZERO),
            None => (self.start_reading(), Instant::now(), MAX_WAIT),
        };
        match job.wait(&Deadline::after(wait)) {
            // It is what it was; after a hang it is read again next.
            Some(Ok(None)) => {}
            Some(Ok(Some((stamp, read)))) => {
                // What could not be read may be readable though nothing about the file changes.
                self.stamp = stamp.filter(|_| !matches!(read, Err(ObjectsError::Read(..))));
                self.publish(read);
            }
            Some(Err(_)) => {
                self.stamp = None;
                self.publish(Err(ObjectsError::Panicked(self.path.clone())));
            }
            None => {
                if wait.is_zero() && since.elapsed() >= self.hung_after {
                    // It must be read again before it counts as readable.
                    self.stamp = None;
                    self.publish(Err(ObjectsError::Hung(self.path.clone())));
                }
                self.reading = Some((job, since));
            }
        }
    }

    fn start_reading(&self) -> Job<Option<Reading>> {
        let (path, selections, before) = (self.path.clone(), self.selections.clone(), self.stamp);
        self.worker.run(thread::current(), move || read_changed(&path, before, &selections))
    }

    fn publish(&self, read: Result<Metadata, ObjectsError>) {
        let had_success = self.metadata.borrow().sources.iter().all(|source| source.success);
        match read {
            Ok(metadata) => {
                if !had_success {
                    tracing::info!(path = %self.path.display(), "the objects file can be read again");
                }
                self.metadata.send_replace(Arc::new(metadata));
            }
            Err(error) if had_success => {
                tracing::error!(%error, "the objects file cannot be read; its last objects stay in use");
                let last = Metadata::clone(&self.metadata.borrow());
                self.metadata.send_replace(Arc::new(Metadata { sources: status(false), ..last }));
            }
            Err(_) => {}
        }
    }
}

fn status(success: bool) -> Vec<SourceStatus> {
    vec![SourceStatus { name: "objects", success }]
}

/// Reads the file, if it is not what it was.
fn read_changed(path: &Path, before: Option<Stamp>, selections: &Selections) -> Option<Reading> {
    let stamp = stamp(path);
    let unchanged = stamp.is_some() && stamp == before;
    (!unchanged).then(|| (stamp, read(path, selections)))
}

fn read(path: &Path, selections: &Selections) -> Result<Metadata, ObjectsError> {
    let unreadable = |error| ObjectsError::Read(path.to_owned(), error);
    let file = std::fs::metadata(path).map_err(unreadable)?;
    // Opening a pipe would wait for its writer.
    if !file.is_file() {
        return Err(unreadable(io::Error::other("not a file")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(Metadata { oldest: file.modified().ok(), ..parse(&bytes, path, selections)? })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// The head of every object, and the items of a list.
#[derive(Deserialize)]
struct Head<'a> {
    kind: Option<String>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// The name of an object, for messages.
#[derive(Deserialize)]
struct Name {
    namespace: Option<String>,
    name: Option<String>,
}

pub(super) fn parse(bytes: &[u8], path: &Path, selections: &Selections) -> Result<Metadata, ObjectsError> {
    let whole: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| ObjectsError::Json(path.to_owned(), error))?;
    let mut objects = Objects {
        pvs: HashMap::new(),
        claims: HashMap::new(),
        pods: PodIndex::default(),
        selections,
        has_known: false,
        has_foreign: false,
    };
    objects.add(whole, None, MAX_DEPTH);
    if objects.has_foreign && !objects.has_known {
        return Err(ObjectsError::NoObjects(path.to_owned(), begin(whole)));
    }
    Ok(objects.into_metadata())
}

struct Objects<'a> {
    pvs: HashMap<String, volume::PersistentVolume>,
    /// Several can have had one name after the other.
    claims: HashMap<ClaimKey, Vec<Arc<Claim>>>,
    pods: PodIndex,
    selections: &'a Selections,
    /// Something was a list, or an object of a kind that is used.
    has_known: bool,
    /// Something was neither.
    has_foreign: bool,
}

impl Objects<'_> {
    /// Adds an object, or the items of a list. The items of a typed list, `PodList`, need not name their kind.
    fn add(&mut self, value: &RawValue, kind_of_list: Option<&str>, depth: usize) {
        let Ok(head) = serde_json::from_str::<Head<'_>>(value.get()) else {
            self.has_foreign = true;
            tracing::warn!(item = begin(value), "left out what is no object");
            return;
        };
        let kind = head.kind.as_deref().or(kind_of_list).unwrap_or_default();
        if let Some(items) = &head.items {
            self.has_known |= items.is_empty();
            let kind_of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
            for item in items.iter().filter(|_| depth > 0) {
                self.add(item, kind_of_items, depth - 1);
            }
            return;
        }
        let added = match kind {
            "PersistentVolume" => self.add_pv(value),
            "PersistentVolumeClaim" => self.add_claim(value),
            "Pod" => self.add_pod(value),
            _ => {
                self.has_foreign = true;
                return;
            }
        };
        self.has_known = true;
        if let Err(error) = added {
            let name = head.metadata.map(describe).unwrap_or_default();
            tracing::warn!(kind, name, %error, "left out an object that does not parse");
        }
    }

    fn add_pv(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let mut pv: PersistentVolume = serde_json::from_str(value.get())?;
        let name = pv.metadata.name.take().ok_or_else(|| serde_json::Error::missing_field("name"))?;
        self.pvs.insert(name, convert::persistent_volume(pv, self.selections));
        Ok(())
    }

    fn add_claim(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let mut claim: PersistentVolumeClaim = serde_json::from_str(value.get())?;
        let name = claim.metadata.name.take().ok_or_else(|| serde_json::Error::missing_field("name"))?;
        let key = ClaimKey { namespace: claim.metadata.namespace.take().unwrap_or_default(), name };
        self.claims.entry(key).or_default().push(Arc::new(convert::claim(claim, self.selections)));
        Ok(())
    }

    fn add_pod(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let pod: SlimPod = serde_json::from_str(value.get())?;
        if pod.name.is_none() || !pod.has_spec {
            return Err(serde_json::Error::custom("it has no name or no spec"));
        }
        self.pods.put(pod);
        Ok(())
    }

    fn into_metadata(self) -> Metadata {
        let Self { pvs, claims, pods, .. } = self;
        let claim_of = |pv: &volume::PersistentVolume| {
            let reference = pv.claim.as_ref()?;
            let claims = claims.get(&reference.key)?;
            let meant = claims.iter().find(|claim| reference.matches_uid(claim.uid.as_deref()));
            Some(meant.map_or(Lookup::Absent, |claim| Lookup::Found(Arc::clone(claim))))
        };
        let volume = |(name, pv): (String, volume::PersistentVolume)| {
            let claim = claim_of(&pv);
            (name, VolumeMetadata { pv: Lookup::Found(Arc::new(pv)), claim, pods: None })
        };
        Metadata {
            volumes: Arc::new(pvs.into_iter().map(volume).collect()),
            pods: Arc::new(pods.to_map()),
            sources: status(true),
            ..Metadata::default()
        }
    }
}

/// The first characters of a value, for messages.
fn begin(value: &RawValue) -> String {
    value.get().chars().take(60).collect()
}

fn describe(metadata: &RawValue) -> String {
    match serde_json::from_str(metadata.get()) {
        Ok(Name { namespace: Some(namespace), name: Some(name) }) => format!("{namespace}/{name}"),
        Ok(Name { name: Some(name), .. }) => name,
        _ => begin(metadata),
    }
}

#[cfg(test)]
mod tests;
