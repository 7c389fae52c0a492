//! Logs when requests about a resource begin and cease to fail, once each.

use std::collections::BTreeMap;

use super::request_error::RequestError;
use super::requests::ApiResource;

/// Resources that fail, and whether that is because they are forbidden.
#[derive(Debug, Default)]
pub(super) struct FailureLog(BTreeMap<ApiResource, bool>);

impl FailureLog {
    pub(super) fn log_failure(&mut self, resource: ApiResource, failure: &RequestError) {
        let is_forbidden = failure.is_forbidden();
        if self.0.insert(resource, is_forbidden) == Some(is_forbidden) {
            return;
        }
        let ApiResource { name: resource, verb } = resource;
        if is_forbidden {
            tracing::error!(
                resource,
                %failure,
                "the API server forbids it: give the service account `{verb} on {resource}`, as manifests/base/rbac.yaml does; going on without"
            );
        } else {
            tracing::warn!(
                resource,
                %failure,
                "the API server cannot be asked; what is known stays in use, and it is tried again"
            );
        }
    }

    pub(super) fn log_recovery(&mut self, resource: ApiResource) {
        if self.0.remove(&resource).is_some() {
            tracing::info!(resource = resource.name, "the API server answers again");
        }
    }
}
