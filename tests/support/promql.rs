//! Which metrics a query asks for.

use std::collections::BTreeSet;

use regex::Regex;

/// Of Prometheus itself and of kube-state-metrics, where there is one.
const OTHERS: [&str; 5] = [
    "up",
    "kube_persistentvolume_info",
    "kube_persistentvolumeclaim_access_mode",
    "kube_persistentvolumeclaim_info",
    "kube_persistentvolumeclaim_labels",
];

/// What is left when texts, matchers, ranges, lists of labels, functions and operators are taken away.
pub(crate) fn metrics(query: &str) -> BTreeSet<String> {
    let without =
        |pattern: &str, text: &str| Regex::new(pattern).unwrap().replace_all(text, " ").into_owned();
    let rest = without(r#""(?:[^"\\]|\\.)*""#, query);
    let lists = "by|without|on|ignoring|group_left|group_right";
    let rest = without(&format!(r"\{{[^{{}}]*\}}|\[[^\]]*\]|\b(?:{lists})\s*\([^)]*\)"), &rest);
    let rest = without(r"\w+\s*\(|\b(?:and|or|unless|bool|offset\s+\w+)\b", &rest);
    let names = Regex::new(r"\b[A-Za-z_][\w:]*").unwrap();
    names.find_iter(&rest).map(|name| name.as_str().to_owned()).collect()
}

/// Fails if a query asks for what nobody has: neither this program, nor the others, nor these recording rules.
pub(crate) fn assert_known(query: &str, recorded: &BTreeSet<String>) {
    let asked = metrics(query);
    assert!(!asked.is_empty(), "no metric in {query}");
    for name in asked {
        let is_known = super::families::families().contains_key(name.as_str())
            || OTHERS.contains(&name.as_str())
            || recorded.contains(&name);
        assert!(is_known, "{name}: {query}");
    }
}

#[test]
fn metrics_are_told_from_all_else() {
    let query = r#"sum by (a, b) (rate(x_total{c="d{", e=~"f"}[5m])) / on (g) group_left (h) i:j:max > bool 1e3 and
        min_over_time(min by (k) (l)[1d:10m]) == 0 or label_replace(m, "n", "$1", "o", "(p)") unless q offset 15m"#;
    let found: Vec<_> = metrics(query).into_iter().collect();
    assert_eq!(found, ["i:j:max", "l", "m", "q", "x_total"]);
}
