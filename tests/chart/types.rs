use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::manifest::text;

/// The object is of a known kind, which has all of its fields.
pub(super) fn assert_known(object: &Value) {
    match text(&object["kind"]) {
        "Namespace" => assert_typed::<Namespace>(object),
        "ServiceAccount" => assert_typed::<ServiceAccount>(object),
        "ClusterRole" => assert_typed::<ClusterRole>(object),
        "ClusterRoleBinding" => assert_typed::<ClusterRoleBinding>(object),
        "PriorityClass" => assert_typed::<PriorityClass>(object),
        "DaemonSet" => assert_typed::<DaemonSet>(object),
        "Service" => assert_typed::<Service>(object),
        "ConfigMap" => assert_typed::<ConfigMap>(object),
        kind => panic!("who knows {kind}?"),
    }
}

/// Kubernetes' own type has each of the fields, and no field is missing.
fn assert_typed<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *object, "what is left of it");
}
