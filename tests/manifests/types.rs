use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::helm::released;
use crate::support::manifest::text;
use crate::support::tool::{is_there, stdout};

/// All objects are of known kinds, which have all of their fields.
pub(super) fn assert_known(objects: Vec<Value>) {
    let (operators, others): (Vec<Value>, Vec<Value>) = objects
        .into_iter()
        .partition(|object| text(&object["apiVersion"]).starts_with("monitoring.coreos.com/"));
    for object in others {
        match text(&object["kind"]) {
            "Namespace" => assert_typed::<Namespace>(&object),
            "ServiceAccount" => assert_typed::<ServiceAccount>(&object),
            "ClusterRole" => assert_typed::<ClusterRole>(&object),
            "ClusterRoleBinding" => assert_typed::<ClusterRoleBinding>(&object),
            "PriorityClass" => assert_typed::<PriorityClass>(&object),
            "DaemonSet" => assert_typed::<DaemonSet>(&object),
            "Service" => assert_typed::<Service>(&object),
            "ConfigMap" => assert_typed::<ConfigMap>(&object),
            kind => panic!("unknown kind {kind}"),
        }
    }
    if !operators.is_empty() && has_operator_types() {
        assert_eq!(faults(&operators), [""; 0]);
    }
}

/// Kubernetes' own type has each of the fields, and no field is missing.
fn assert_typed<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *object);
}

/// Prints what the operator's definitions do not have or refuse.
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/operator_types.py");

/// Whether the operator's definitions are here, whose import takes seconds; if not, the test is skipped.
fn has_operator_types() -> bool {
    let find = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('cloudcoil.models.prometheus_operator'))";
    is_there("python3", &["-c", find])
}

fn faults(objects: &[Value]) -> Vec<String> {
    serde_json::from_str(&stdout("python3", &[CHECK], &json!(objects).to_string())).unwrap()
}

#[test]
fn faults_in_objects_of_the_operator_are_found() {
    let Some(releases) = released(&[json!({"monitor": {"kind": "PodMonitor"}})]) else { return };
    let good = releases[0].manifest.the("PodMonitor").clone();
    if !has_operator_types() {
        return;
    }
    let faulty = |field: &str, value: Value| {
        let mut object = good.clone();
        object["spec"]["podMetricsEndpoints"][0].pointer_mut(field).unwrap().clone_from(&value);
        object
    };
    let unknown = faulty("/relabelings/0", json!({"sourceLabel": ["a"]}));
    let action = faulty("/relabelings/1/action", json!("forget"));
    let kind = faulty("/honorLabels", json!("yes, please"));
    assert_eq!(faults(&[unknown, good, action, kind]).len(), 3);
}
