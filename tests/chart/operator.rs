use serde_json::{Value, json};

use super::with;
use crate::support::helm::is_helm_there;
use crate::support::tool::{is_there, pipe};

/// Reads objects by models that are made from the operator's own definitions, and says what is wrong with each: a value
/// that they refuse, or a field that they do not have and so drop.
const CHECK: &str = r#"
import json, sys
from cloudcoil.models.prometheus_operator import v1

def fault(thing):
    try:
        kept = getattr(v1, thing["kind"]).model_validate(thing)
    except ValueError as error:
        return str(error)
    kept = kept.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return None if kept == thing else f"of {json.dumps(thing)} remains {json.dumps(kept)}"

json.dump([fault for fault in map(fault, json.load(sys.stdin)) if fault], sys.stdout)
"#;

/// Whether the operator's definitions are here; if not, the test is skipped.
pub(super) fn is_known_here() -> bool {
    is_there("python3", &["-c", "import cloudcoil.models.prometheus_operator"])
}

/// What is wrong with objects of the operator's.
pub(super) fn faults(objects: &[Value]) -> Vec<String> {
    let output = pipe("python3", &["-c", CHECK], &json!(objects).to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_the_operator_would_refuse_is_found() {
    if !is_helm_there() || !is_known_here() {
        return;
    }
    let good = with(json!({"monitor": {"kind": "PodMonitor"}})).the("PodMonitor").clone();
    let faulty = |path: &str, value: Value| {
        let mut object = good.clone();
        *object.pointer_mut(path).unwrap() = value;
        object
    };
    let endpoint = "/spec/podMetricsEndpoints/0";
    let unknown = faulty(&format!("{endpoint}/relabelings/0"), json!({"sourceLabel": ["a"]}));
    let action = faulty(&format!("{endpoint}/relabelings/1/action"), json!("forget"));
    let kind = faulty(&format!("{endpoint}/honorLabels"), json!("yes, please"));
    assert_eq!(faults(&[unknown, good, action, kind]).len(), 3);
}
