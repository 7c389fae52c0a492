//! Objects from a file: what `kubectl get pv,pvc,pods -A -o json` printed.

use std::fs::Metadata as FileMetadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Selections;
use super::schema::{PersistentVolume, PersistentVolumeClaim, Pod};
use crate::volume::Metadata;

/// Lists of lists are fine, but not without end.
const DEEPEST: usize = 16;

/// A file of objects, read again when it changes.
#[derive(Debug)]
pub struct ObjectsFile {
    path: PathBuf,
    selections: Selections,
    stamp: Option<Stamp>,
    modified: Option<SystemTime>,
    success: bool,
    metadata: Arc<Metadata>,
}

/// What changes when a file does.
type Stamp = (u64, u64, u64, i64, i64);

/// A file that has no Kubernetes objects.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
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
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or holds no Kubernetes objects. An object that does not parse only costs itself.
    pub fn open(path: &Path, selections: Selections) -> Result<Self, ObjectsError> {
        let mut file = Self {
            path: path.to_owned(),
            selections,
            stamp: None,
            modified: None,
            success: false,
            metadata: Arc::default(),
        };
        file.read()?;
        Ok(file)
    }

    /// What the file says now. If it can no longer be read, what it said last: labels must not flap.
    pub fn metadata(&mut self) -> Arc<Metadata> {
        let changed = match std::fs::metadata(&self.path) {
            Ok(metadata) => self.stamp != Some(stamp(&metadata)),
            Err(_) => true,
        };
        if changed
            && let Err(error) = self.read()
            && std::mem::replace(&mut self.success, false)
        {
            tracing::error!(%error, "the objects file cannot be read; its last objects stay in use");
        }
        Arc::clone(&self.metadata)
    }

    /// Whether the file could be read the last time.
    #[must_use]
    pub fn success(&self) -> bool {
        self.success
    }

    /// How long ago the objects in use were written.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let modified = self.modified?;
        Some(now.duration_since(modified).unwrap_or_default())
    }

    fn read(&mut self) -> Result<(), ObjectsError> {
        let unreadable = |error| ObjectsError::Read(self.path.clone(), error);
        self.stamp = None;
        let before = std::fs::metadata(&self.path).map_err(unreadable)?;
        let bytes = std::fs::read(&self.path).map_err(unreadable)?;
        // Even of a file that is no good: it is read again when it changes.
        self.stamp = Some(stamp(&before));
        self.metadata = Arc::new(parse(&bytes, &self.path, &self.selections)?);
        self.modified = before.modified().ok();
        self.success = true;
        Ok(())
    }
}

fn stamp(file: &FileMetadata) -> Stamp {
    (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec())
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

fn parse(bytes: &[u8], path: &Path, selections: &Selections) -> Result<Metadata, ObjectsError> {
    let whole: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| ObjectsError::Json(path.to_owned(), error))?;
    let mut objects = Objects { metadata: Metadata::default(), selections, known: false, foreign: false };
    objects.take(whole, None, DEEPEST);
    if objects.foreign && !objects.known {
        return Err(ObjectsError::NoObjects(path.to_owned(), begin(whole)));
    }
    Ok(objects.metadata)
}

struct Objects<'a> {
    metadata: Metadata,
    selections: &'a Selections,
    /// Something was a list, or an object of a kind that is used.
    known: bool,
    /// Something was neither.
    foreign: bool,
}

impl Objects<'_> {
    /// Takes an object, or the items of a list. The items of a typed list, `PodList`, need not name their kind.
    fn take(&mut self, value: &RawValue, kind_of_list: Option<&str>, depth: usize) {
        let Ok(head) = serde_json::from_str::<Head<'_>>(value.get()) else {
            self.foreign = true;
            tracing::warn!(item = begin(value), "left out what is no object");
            return;
        };
        let kind = head.kind.as_deref().or(kind_of_list).unwrap_or_default();
        if let Some(items) = &head.items {
            self.known |= items.is_empty();
            let kind_of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
            for item in items.iter().filter(|_| depth > 0) {
                self.take(item, kind_of_items, depth - 1);
            }
            return;
        }
        let taken = match kind {
            "PersistentVolume" => self.take_pv(value),
            "PersistentVolumeClaim" => self.take_claim(value),
            "Pod" => self.take_pod(value),
            _ => {
                self.foreign = true;
                return;
            }
        };
        self.known = true;
        if let Err(error) = taken {
            let name = head.metadata.map(describe).unwrap_or_default();
            tracing::warn!(kind, name, %error, "left out an object that does not parse");
        }
    }

    fn take_pv(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let pv: PersistentVolume = serde_json::from_str(value.get())?;
        let (name, pv) = pv.into_domain(self.selections);
        self.metadata.persistent_volumes.insert(name, Arc::new(pv));
        Ok(())
    }

    fn take_claim(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let claim: PersistentVolumeClaim = serde_json::from_str(value.get())?;
        let (key, claim) = claim.into_domain(self.selections);
        self.metadata.claims.insert(key, Arc::new(claim));
        Ok(())
    }

    fn take_pod(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let pod: Pod = serde_json::from_str(value.get())?;
        let (uids, pod) = pod.into_domain();
        let pod = Arc::new(pod);
        for uid in uids {
            self.metadata.pods.insert(uid, Arc::clone(&pod));
        }
        Ok(())
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
