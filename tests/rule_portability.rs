use std::collections::BTreeSet;

use regex::Regex;

use crate::rules::{alerts, rules};
use crate::support::manifest::text;

/// The labels that a template takes for granted: where one is absent, Go prints `<no value>`, or fails in `printf`, unless
/// the template engine is told otherwise.
fn bare_labels(template: &str) -> BTreeSet<String> {
    let guarded =
        Regex::new(r#"\b(?:with|if) [$.][lL]abels\.\w+|\bor(?: [$.][lL]abels\.\w+)+(?: "")?"#).unwrap();
    let rest = guarded.replace_all(template, "");
    let label = Regex::new(r"[$.][lL]abels\.(\w+)").unwrap();
    label.captures_iter(&rest).map(|label| label[1].to_owned()).collect()
}

#[test]
fn bare_labels_are_told_from_guarded_ones() {
    let template = r#"{{ with $labels.a }}{{ . }}{{ end }}{{ if $labels.b }}{{ or $labels.c $labels.d }}{{ end }}
        {{ range printf `x{e=%q, f=%q}` (or $labels.e "") $labels.f | query }}{{ .Labels.g }}{{ end }}{{ $labels.h }}"#;
    assert_eq!(bare_labels(template), ["f", "g", "h"].map(str::to_owned).into());
}

#[test]
fn templates_need_no_label_that_may_be_absent() {
    for (name, alert) in alerts() {
        // The kubelet's series have both.
        let claim: &[&str] =
            if name.starts_with("Claim") { &["namespace", "persistentvolumeclaim"] } else { &[] };
        for annotation in ["summary", "description"] {
            let mut bare = bare_labels(text(&alert["annotations"][annotation]));
            // These are labels of every series that the queries of the descriptions read.
            bare.retain(|label| !["pv_name", "reason", "source"].contains(&label.as_str()));
            bare.retain(|label| !claim.contains(&label.as_str()));
            assert_eq!(bare, BTreeSet::new(), "{name}: {annotation}");
        }
    }
}

/// Prometheus gives nothing for the first sample of a series, and `VictoriaMetrics` often that sample's value.
#[test]
fn no_rule_counts_the_first_sample_of_a_series() {
    let differing = Regex::new(r"\b(?:increase|delta|idelta|changes|rate|irate)\s*\(").unwrap();
    for rule in rules() {
        assert!(!differing.is_match(text(&rule["expr"])), "{rule:#}");
    }
}
