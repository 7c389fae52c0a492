//! Kubernetes objects as JSON: what `kubectl get pv,pvc,pods -A -o json` prints.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use serde::de::Error as _;
use serde_json::value::RawValue;

use super::convert;
use super::pod_index::PodIndex;
use super::slim_pod::Fields;
use crate::volume::{
    Claim, ClaimKey, Lookup, Metadata, PersistentVolume, Selections, SourceStatus, VolumeMetadata,
};

/// Lists of lists are read to this depth.
const MAX_DEPTH: usize = 16;

/// A file that has no Kubernetes objects.
#[expect(missing_docs, reason = "each message says it")]
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0} is not JSON: {1}; make it by `kubectl get pv,pvc,pods -A -o json`")]
    Json(PathBuf, #[source] serde_json::Error),
    #[error(
        "{0} has no PersistentVolume, PersistentVolumeClaim or Pod, but {1:?}…; make the file by `kubectl get pv,pvc,pods -A -o json`"
    )]
    NoObjects(PathBuf, String),
}

/// Parses Kubernetes objects; errors name the path.
pub fn parse_objects(bytes: &[u8], path: &Path, selections: &Selections) -> Result<Metadata, ObjectsError> {
    let whole: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| ObjectsError::Json(path.to_owned(), error))?;
    let mut objects = Objects::default();
    objects.add(whole, None, MAX_DEPTH, selections);
    if objects.has_foreign && !objects.has_known {
        return Err(ObjectsError::NoObjects(path.to_owned(), begin(whole)));
    }
    Ok(objects.into_metadata())
}

#[derive(Default)]
struct Objects {
    pvs: HashMap<String, PersistentVolume>,
    /// Several can have had one name after the other.
    claims: HashMap<ClaimKey, Vec<Arc<Claim>>>,
    pods: PodIndex,
    /// Something was a list, or an object of a kind that is used.
    has_known: bool,
    /// Something was neither.
    has_foreign: bool,
}

impl Objects {
    /// Adds an object, or the items of a list. The items of a typed list, `PodList`, need not name their kind.
    fn add(&mut self, value: &RawValue, kind_of_list: Option<&str>, depth: usize, selections: &Selections) {
        let Some(head) = Fields::of(value) else {
            self.has_foreign = true;
            tracing::warn!(
                event = "object_unrecognized",
                item = begin(value),
                "skipped an item that is no object"
            );
            return;
        };
        let kind = head.name("kind").or_else(|| kind_of_list.map(ToOwned::to_owned)).unwrap_or_default();
        if let Some(items) = head.read::<Vec<&RawValue>>("items") {
            self.has_known |= items.is_empty();
            let kind_of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
            for item in items.iter().filter(|_| depth > 0) {
                self.add(item, kind_of_items, depth - 1, selections);
            }
            return;
        }
        let added = self.add_object(&kind, value.get(), selections);
        self.has_foreign |= matches!(added, Ok(false));
        self.has_known |= !matches!(added, Ok(false));
        if let Err(error) = added {
            let metadata: Fields<'_> = head.read("metadata").unwrap_or_default();
            let name = ["namespace", "name"].into_iter().filter_map(|field| metadata.name(field));
            let name = name.collect::<Vec<_>>().join("/");
            tracing::warn!(event = "object_malformed", kind, name, %error, "skipped an object that does not parse");
        }
    }

    /// Adds an object; whether it is of a kind that is used.
    fn add_object(&mut self, kind: &str, json: &str, selections: &Selections) -> serde_json::Result<bool> {
        let has_no_name = || serde_json::Error::missing_field("name");
        match kind {
            "PersistentVolume" => {
                let mut pv: v1::PersistentVolume = serde_json::from_str(json)?;
                let name = pv.metadata.name.take().ok_or_else(has_no_name)?;
                self.pvs.insert(name, convert::persistent_volume(pv, selections));
            }
            "PersistentVolumeClaim" => {
                let mut claim: v1::PersistentVolumeClaim = serde_json::from_str(json)?;
                let name = claim.metadata.name.take().ok_or_else(has_no_name)?;
                let key = ClaimKey { namespace: claim.metadata.namespace.take().unwrap_or_default(), name };
                self.claims.entry(key).or_default().push(Arc::new(convert::claim(claim, selections)));
            }
            "Pod" => self.pods.put(serde_json::from_str(json)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn into_metadata(self) -> Metadata {
        let volumes = self.pvs.into_iter().map(|(name, pv)| {
            let claim = pv.claim.as_ref().and_then(|reference| {
                let claims = self.claims.get(&reference.key)?;
                let meant = claims.iter().find(|claim| reference.matches_uid(claim.uid.as_deref()));
                Some(meant.map_or(Lookup::Absent, |claim| Lookup::Found(Arc::clone(claim))))
            });
            (name, VolumeMetadata { pv: Lookup::Found(Arc::new(pv)), claim, pods: None })
        });
        Metadata {
            volumes: Arc::new(volumes.collect()),
            pods: Arc::new(self.pods.to_map()),
            sources: vec![SourceStatus { name: "objects", success: true }],
            ..Metadata::default()
        }
    }
}

/// The first characters of a value, for messages.
fn begin(value: &RawValue) -> String {
    value.get().chars().take(60).collect()
}
