//! What a person wants to read in the log about the API server: what begins and ceases to fail, once each.

use std::collections::BTreeMap;

use super::client::Resource;
use super::failure::Failure;

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Report(BTreeMap<Resource, bool>);

impl Report {
    /// A request came to nothing, or was forbidden.
    pub(super) fn failed(&mut self, resource: Resource, failure: &Failure) {
        let forbidden = failure.status() == Some(403);
        if self.0.insert(resource, forbidden) == Some(forbidden) {
            return;
        }
        let name = resource.as_str();
        if forbidden {
            let rule = match resource {
                Resource::Pods => "list and watch on pods",
                Resource::PersistentVolumes => "get on persistentvolumes",
                Resource::PersistentVolumeClaims => "get on persistentvolumeclaims",
            };
            tracing::error!(
                resource = name,
                %failure,
                "the API server forbids it: give the service account `{rule}`, as manifests/base/rbac.yaml does; going on without"
            );
        } else {
            tracing::warn!(
                resource = name,
                %failure,
                "the API server cannot be asked; what is known stays in use, and it is tried again"
            );
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, resource: Resource) {
        if self.0.remove(&resource).is_some() {
            tracing::info!(resource = resource.as_str(), "the API server answers again");
        }
    }
}
