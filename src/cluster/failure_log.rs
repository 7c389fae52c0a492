//! Logs when requests about a resource begin and cease to fail, once each.

use std::collections::BTreeMap;

use super::request_error::RequestError;
use super::requests::ApiResource;

/// Whether the last failure of a resource was that it is forbidden.
#[derive(Debug, Default)]
pub(super) struct FailureLog(BTreeMap<ApiResource, bool>);

impl FailureLog {
    /// A request failed, or was forbidden.
    pub(super) fn log_failure(&mut self, resource: ApiResource, failure: &RequestError) {
        let is_forbidden = failure.is_forbidden();
        if self.0.insert(resource, is_forbidden) == Some(is_forbidden) {
            return;
        }
        let (name, verb) = (resource.as_str(), resource.verb());
        if is_forbidden {
            tracing::error!(
                resource = name,
                %failure,
                "the API server forbids it: give the service account `{verb} on {name}`, as manifests/base/rbac.yaml does; going on without"
            );
        } else {
            tracing::warn!(
                resource = name,
                %failure,
                "the API server cannot be asked; what is known stays in use, and it is tried again"
            );
        }
    }

    /// All requests are answered.
    pub(super) fn log_recovery(&mut self, resource: ApiResource) {
        if self.0.remove(&resource).is_some() {
            tracing::info!(resource = resource.as_str(), "the API server answers again");
        }
    }
}
