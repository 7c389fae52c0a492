//! Which metrics a query asks for.

use std::collections::BTreeSet;

use regex::Regex;

use super::families::families;

/// Of Prometheus itself and of kube-state-metrics, where there is one.
const OTHERS: [&str; 5] = [
    "up",
    "kube_persistentvolume_info",
    "kube_persistentvolumeclaim_access_mode",
    "kube_persistentvolumeclaim_info",
    "kube_persistentvolumeclaim_labels",
];

/// What is left without texts, without matchers, ranges and lists of labels, and without functions and operators.
fn metrics(query: &str) -> BTreeSet<String> {
    let others = [
        r#""(?:[^"\\]|\\.)*""#,
        r"\{[^{}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
        r"\w+\s*\(|\b(?:and|or|unless|bool|offset\s+\w+)\b",
    ]
    .map(|pattern| Regex::new(pattern).unwrap());
    let rest = others.iter().fold(query.to_owned(), |rest, other| other.replace_all(&rest, " ").into_owned());
    let names = Regex::new(r"\b[A-Za-z_][\w:]*").unwrap();
    names.find_iter(&rest).map(|name| name.as_str().to_owned()).collect()
}

/// Fails if a query names a metric that neither this program, nor the others, nor these recording rules have.
pub(crate) fn assert_known(query: &str, recorded: &BTreeSet<String>) {
    let metrics = metrics(query);
    assert!(!metrics.is_empty(), "no metric in {query}");
    for name in metrics.iter().map(String::as_str) {
        let is_known = families().contains_key(name) || OTHERS.contains(&name) || recorded.contains(name);
        assert!(is_known, "{name}: {query}");
    }
}

#[test]
fn metrics_are_told_from_other_words() {
    let query = r#"sum by (a, b) (rate(x_total{c="d{", e=~"f"}[5m])) / on (g) group_left (h) i:j:max > bool 1e3 and
        min_over_time(min by (k) (l)[1d:10m]) == 0 or label_replace(m, "n", "$1", "o", "(p)") unless q offset 15m"#;
    let metrics: Vec<_> = metrics(query).into_iter().collect();
    assert_eq!(metrics, ["i:j:max", "l", "m", "q", "x_total"]);
}
