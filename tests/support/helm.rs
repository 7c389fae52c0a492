//! The chart, rendered by Helm itself: Python's `helm_python` carries it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::manifest::Manifest;
use super::tool::{is_there, stdout};

const RENDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/render.py");

/// Release and namespace.
pub(crate) const RELEASE: &str = "disk-usage-exporter";
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/chart");

/// A release of the chart: its objects, and the notes that its user reads.
pub(crate) struct Release {
    pub(crate) manifest: Manifest,
    pub(crate) notes: String,
}

/// What Helm makes of a chart with each of these values, or why it refuses them; `None` where there is no Helm.
pub(crate) fn releases(
    chart: &str,
    [release, namespace]: [&str; 2],
    values: &[Value],
) -> Option<Vec<Result<Release, String>>> {
    if !is_there("python3", &["-c", "import helm_python"]) {
        return None;
    }
    let rendered = stdout("python3", &[RENDER, chart, release, namespace], &json!(values).to_string());
    let rendered: Vec<Result<BTreeMap<String, String>, String>> = serde_json::from_str(&rendered).unwrap();
    let release = |mut files: BTreeMap<String, String>| {
        let notes =
            files.extract_if(.., |path, _| path.ends_with("NOTES.txt")).map(|(_, text)| text).collect();
        let objects = files.into_values().flat_map(|text| Manifest::parse(&text).0).collect();
        Release { manifest: Manifest(objects), notes }
    };
    Some(rendered.into_iter().map(|files| files.map(release)).collect())
}

/// The chart's releases with each of these values, which it takes.
pub(crate) fn released(values: &[Value]) -> Option<Vec<Release>> {
    let releases = releases(CHART, [RELEASE, RELEASE], values)?.into_iter();
    Some(releases.map(|release| release.unwrap_or_else(|error| panic!("{error}"))).collect())
}
