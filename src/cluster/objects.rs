//! Objects from a file: what `kubectl get pv,pvc,pods -A -o json` printed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Selections;
use super::schema::{Identity as _, PersistentVolume, PersistentVolumeClaim, Pod};
use crate::aside::Aside;
use crate::volume::Metadata;

/// Lists of lists are fine, but not without end.
const DEEPEST: usize = 16;

/// How long a scrape waits for a changed file: a large one is used from the next scrape on.
const MOST_WAIT: Duration = Duration::from_millis(250);

/// How long reading may take before the file counts as one that cannot be read.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// A file of objects, read again when it changes. It may be on a file system that hangs.
#[derive(Debug)]
pub struct ObjectsFile {
    path: PathBuf,
    /// What is in use.
    contents: Contents,
    /// What the file was when it was read last, used or not.
    stamp: Option<Stamp>,
    /// Looks at the file, and reads it if it is not what it was.
    reader: Aside<Option<Stamp>, Option<Reading>>,
    hung_after: Duration,
    success: bool,
}

#[derive(Debug)]
struct Contents {
    metadata: Arc<Metadata>,
    modified: Option<SystemTime>,
}

type Reading = (Option<Stamp>, Result<Contents, ObjectsError>);

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
        let stamp = stamp(path);
        let contents = read(path, &selections)?;
        let path = path.to_owned();
        let file = path.clone();
        let reader = Aside::start("objects", move |before| read_changed(&file, before, &selections));
        let reader = reader.map_err(|error| ObjectsError::Read(path.clone(), error))?;
        Ok(Self { path, contents, stamp, reader, hung_after: HUNG_AFTER, success: true })
    }

    /// What the file says now. If it can no longer be read, what it said last: labels must not flap.
    pub fn metadata(&mut self) -> Arc<Metadata> {
        let busy_since = self.reader.busy_since();
        if busy_since.is_none() {
            self.reader.ask(self.stamp);
        }
        let wait = if busy_since.is_none() { MOST_WAIT } else { Duration::ZERO };
        match self.reader.answer(wait) {
            // It is what it was; after a hang it is read again next.
            Some(None) => {}
            Some(Some((stamp, read))) => {
                // What could not be read may be readable though nothing about the file changes.
                self.stamp = stamp.filter(|_| !matches!(read, Err(ObjectsError::Read(..))));
                self.take(read);
            }
            None if busy_since.is_some_and(|since| since.elapsed() < self.hung_after) => {}
            None if busy_since.is_some() => {
                // It must be read again before it counts as readable.
                self.stamp = None;
                self.take(Err(ObjectsError::Hung(self.path.clone())));
            }
            None if self.reader.busy_since().is_some() => {}
            // The reader panicked: the next scrape tries again.
            None => (self.stamp, self.success) = (None, false),
        }
        Arc::clone(&self.contents.metadata)
    }

    /// Whether the file could be read the last time.
    #[must_use]
    pub fn success(&self) -> bool {
        self.success
    }

    /// How long ago the objects in use were written.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let modified = self.contents.modified?;
        Some(now.duration_since(modified).unwrap_or_default())
    }

    fn take(&mut self, read: Result<Contents, ObjectsError>) {
        let before = std::mem::replace(&mut self.success, read.is_ok());
        match read {
            Ok(contents) => {
                if !before {
                    tracing::info!(path = %self.path.display(), "the objects file can be read again");
                }
                self.contents = contents;
            }
            Err(error) if before => {
                tracing::error!(%error, "the objects file cannot be read; its last objects stay in use");
            }
            Err(_) => {}
        }
    }
}

/// Reads the file, if it is not what it was.
fn read_changed(path: &Path, before: Option<Stamp>, selections: &Selections) -> Option<Reading> {
    let stamp = stamp(path);
    let unchanged = stamp.is_some() && stamp == before;
    (!unchanged).then(|| (stamp, read(path, selections)))
}

fn read(path: &Path, selections: &Selections) -> Result<Contents, ObjectsError> {
    let unreadable = |error| ObjectsError::Read(path.to_owned(), error);
    let file = std::fs::metadata(path).map_err(unreadable)?;
    // Opening a pipe would wait for its writer.
    if !file.is_file() {
        return Err(unreadable(io::Error::other("not a file")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(Contents { metadata: Arc::new(parse(&bytes, path, selections)?), modified: file.modified().ok() })
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
        self.metadata.claims.entry(key).or_default().push(Arc::new(claim));
        Ok(())
    }

    fn take_pod(&mut self, value: &RawValue) -> serde_json::Result<()> {
        let pod: Pod = serde_json::from_str(value.get())?;
        let own = pod.version().uid;
        let (uids, pod) = pod.into_domain();
        let pod = Arc::new(pod);
        for uid in uids {
            // Whoever makes a pod can write any annotation: it does not take the place of the pod of that very uid.
            if own.as_ref() == Some(&uid) {
                self.metadata.pods.insert(uid, Arc::clone(&pod));
            } else {
                self.metadata.pods.entry(uid).or_insert_with(|| Arc::clone(&pod));
            }
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
