//! The chart, rendered by Helm itself: Python's `helm_python` carries it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::manifest::Manifest;
use super::tool::{is_there, pipe};

/// Releases the chart with each of the values that it is given; JSON in, JSON out.
const RENDER: &str = r#"
import json, sys
import helm_python

chart = helm_python.Chart.load(sys.argv[1])

def rendered(values):
    try:
        return {"Ok": chart.render(values, name=sys.argv[2], namespace=sys.argv[3])}
    except helm_python.HelmError as error:
        return {"Err": str(error)}

json.dump([rendered(values) for values in json.load(sys.stdin)], sys.stdout)
"#;

/// Release and namespace.
pub(crate) const RELEASE: &str = "disk-usage-exporter";

pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/chart")
}

/// Whether Helm is there; if not, the test is skipped.
pub(crate) fn is_helm_there() -> bool {
    is_there("python3", &["-c", "import helm_python"])
}

/// What Helm makes of a chart with each of these values, or why it refuses them.
pub(crate) fn released(chart: &Path, values: &[Value]) -> Vec<Result<Manifest, String>> {
    released_as([RELEASE, RELEASE], chart, values)
}

/// The same, for a release and a namespace of these names.
pub(crate) fn released_as(
    [release, namespace]: [&str; 2],
    chart: &Path,
    values: &[Value],
) -> Vec<Result<Manifest, String>> {
    let said = rendered([release, namespace], chart, values);
    said.into_iter().map(|files| files.map(objects)).collect()
}

/// What a user reads who installs the chart with these values, which it takes.
pub(crate) fn notes(values: Value) -> String {
    let files = rendered([RELEASE, RELEASE], &chart(), &[values]).remove(0).unwrap();
    files.into_iter().find(|(path, _)| path.ends_with("NOTES.txt")).unwrap().1
}

/// Texts by the templates' paths, or why there are none.
fn rendered(
    [release, namespace]: [&str; 2],
    chart: &Path,
    values: &[Value],
) -> Vec<Result<BTreeMap<String, String>, String>> {
    let args = ["-c", RENDER, chart.to_str().unwrap(), release, namespace];
    let output = pipe("python3", &args, &json!(values).to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn objects(files: BTreeMap<String, String>) -> Manifest {
    let templates = files.into_iter().filter(|(path, _)| !path.ends_with("NOTES.txt"));
    let objects = templates.flat_map(|(path, text)| -> Vec<Value> {
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"))
    });
    Manifest(objects.filter(|object| !object.is_null()).collect())
}
