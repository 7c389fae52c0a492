//! For `fuzz/`: an objects file as bytes.

use std::path::Path;

use super::{ObjectsError, Selections, objects_file};
use crate::volume::Metadata;

/// What the objects in these bytes say.
///
/// # Errors
///
/// If they are no Kubernetes objects.
pub fn metadata(bytes: &[u8], selections: &Selections) -> Result<Metadata, ObjectsError> {
    objects_file::parse(bytes, Path::new("objects.json"), selections)
}
