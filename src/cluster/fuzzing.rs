//! For `fuzz/`: an objects file, a list and a watch of pods, as bytes.

use std::path::Path;

pub use super::api::fuzzing::{listed, watched};
use super::{ObjectsError, Selections, objects};
use crate::volume::Metadata;

/// What the objects in these bytes say.
///
/// # Errors
///
/// If they are no Kubernetes objects.
pub fn metadata(bytes: &[u8], selections: &Selections) -> Result<Metadata, ObjectsError> {
    objects::parse(bytes, Path::new("objects.json"), selections)
}
