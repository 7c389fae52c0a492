use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::manifest::{list, text};

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
        "PodMonitor" | "ServiceMonitor" | "PrometheusRule" => assert_of_the_operator(object),
        kind => panic!("who knows {kind}?"),
    }
}

/// Kubernetes' own type has each of the fields, and no field is missing.
fn assert_typed<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *object, "what is left of it");
}

/// The operator's types are known to nothing here: these are the fields that the chart uses, written down by hand from
/// <https://prometheus-operator.dev/docs/api-reference/api/>.
fn assert_of_the_operator(object: &Value) {
    assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
    let spec = &object["spec"];
    let endpoints = match text(&object["kind"]) {
        "PrometheusRule" => return assert_fields(spec, &["groups"]),
        "PodMonitor" => "podMetricsEndpoints",
        _ => "endpoints",
    };
    assert_fields(spec, &["jobLabel", "selector", endpoints]);
    assert_fields(&spec["selector"], &["matchLabels"]);
    let [endpoint] = list(&spec[endpoints]) else { panic!("{spec:#}") };
    let known = ["port", "honorLabels", "interval", "scrapeTimeout", "relabelings", "metricRelabelings"];
    assert_fields(endpoint, &known);
    for rule in ["relabelings", "metricRelabelings"].iter().flat_map(|rules| list(&endpoint[rules])) {
        assert_fields(rule, &["sourceLabels", "targetLabel", "regex", "replacement", "action"]);
    }
}

fn assert_fields(object: &Value, known: &[&str]) {
    let fields = object.as_object().unwrap_or_else(|| panic!("{object:#}"));
    assert!(!fields.is_empty() && fields.keys().all(|field| known.contains(&&**field)), "{object:#}");
}
