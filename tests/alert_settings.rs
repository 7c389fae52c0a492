use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::rules::{BASE, alerts};
use crate::support::document::yaml;
use crate::support::helm::{Release, released};
use crate::support::manifest::{Manifest, list, text};
use crate::support::tool::{is_there, stdout};

/// Alerts by their names.
pub(crate) type Alerts = BTreeMap<String, Value>;

/// The alerts of all objects.
pub(crate) fn alerts_of(manifest: &Manifest) -> Alerts {
    let groups = manifest.all("PrometheusRule").flat_map(|object| list(&object["spec"]["groups"]));
    let rules = groups.flat_map(|group| list(&group["rules"])).filter(|rule| rule["alert"].is_string());
    rules.map(|rule| (text(&rule["alert"]).to_owned(), rule.clone())).collect()
}

/// Fails with those that differ. Blanks at the ends of expressions mean nothing.
pub(crate) fn assert_same(alerts: &Alerts, expected: &Alerts, context: &str) {
    assert_eq!(alerts.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{context}");
    let trimmed = |alert: &Value| {
        let mut alert = alert.clone();
        alert["expr"] = json!(text(&alert["expr"]).trim());
        alert
    };
    for (name, alert) in alerts {
        assert_eq!(trimmed(alert), trimmed(&expected[name]), "{context}: {name}");
    }
}

/// What a chart's user writes below `prometheusRule`.
fn values(mut settings: Value) -> Value {
    settings["enabled"] = json!(true);
    json!({"prometheusRule": settings})
}

fn released_alerts(settings: &[Value]) -> Option<Vec<Alerts>> {
    let values: Vec<Value> = settings.iter().cloned().map(values).collect();
    Some(released(&values)?.iter().map(|Release { manifest, .. }| alerts_of(manifest)).collect())
}

fn defaults() -> BTreeMap<String, Value> {
    let values = yaml("manifests/chart/values.yaml");
    serde_json::from_value(values["prometheusRule"]["alerts"].clone()).unwrap()
}

/// An expression whose threshold is this.
fn with_threshold(expr: &Value, default: &Value, threshold: &str) -> Value {
    let expr = text(expr);
    let start = expr.find("> ").unwrap() + 2;
    let rest =
        expr[start..].strip_prefix(&default.to_string()).unwrap_or_else(|| panic!("{expr}: {default}"));
    json!(format!("{}{threshold}{rest}", &expr[..start]))
}

#[test]
fn values_have_every_alert_with_its_settings() {
    let shipped = alerts().into_iter().map(|(name, alert)| {
        let wait = alert.get("for").cloned().unwrap_or(json!("0s"));
        (name, json!({"enabled": true, "severity": alert["labels"]["severity"], "for": wait}))
    });
    let mut defaults = defaults();
    for settings in defaults.values_mut() {
        settings.as_object_mut().unwrap().remove("threshold");
    }
    assert_eq!(defaults, shipped.collect());
}

/// The alert that begins where this one ends.
fn next(name: &str) -> Option<String> {
    let next = name.replace("FillingUp", "NearlyFull").replace("RunningOutOfInodes", "NearlyOutOfInodes");
    (next != name).then_some(next)
}

#[test]
fn each_setting_changes_its_alert_alone() {
    let defaults = defaults();
    let names: Vec<&String> = defaults.keys().collect();
    let changed = |name: &str| {
        let mut settings = json!({"severity": "page", "for": "7m"});
        if defaults[name]["threshold"].is_number() {
            settings["threshold"] = json!(86.5);
        }
        json!({"alerts": {name: settings}})
    };
    let disabled = |name: &str| json!({"alerts": {name: {"enabled": false}}});
    let settings: Vec<Value> = names.iter().flat_map(|name| [changed(name), disabled(name)]).collect();
    let Some(released) = released_alerts(&settings) else { return };
    for (name, results) in names.into_iter().zip(released.chunks(2)) {
        let mut expected = alerts();
        let is_next = |(other, _): &(&String, &mut Value)| next(other).as_ref() == Some(name);
        let end = |alerts: &mut Alerts, end: &str| {
            for (_, other) in alerts.iter_mut().filter(is_next) {
                other["expr"] = json!(text(&other["expr"]).replace("<= 97", &format!("<= {end}")));
            }
        };
        let mut without = expected.clone();
        without.remove(name);
        end(&mut without, "100");
        assert_same(&results[1], &without, &format!("without {name}"));

        end(&mut expected, "86.5");
        let alert = expected.get_mut(name).unwrap();
        (alert["labels"]["severity"], alert["for"]) = (json!("page"), json!("7m"));
        if let Some(default) = defaults[name].get("threshold") {
            alert["expr"] = with_threshold(&alert["expr"], default, "86.5");
        }
        assert_same(&results[0], &expected, name);
    }
}

/// The alerts that the stock ones make superfluous.
const STOCK: [&str; 8] = [
    "ClaimFillingUp",
    "ClaimNearlyFull",
    "ClaimNearlyOutOfInodes",
    "ClaimRunningOutOfInodes",
    "VolumeFillingUp",
    "VolumeNearlyFull",
    "VolumeNearlyOutOfInodes",
    "VolumeRunningOutOfInodes",
];

/// What is shipped, but what the stock alerts watch.
pub(crate) fn missing_from_kube_prometheus() -> Alerts {
    let mut alerts = alerts();
    for name in STOCK {
        alerts.remove(name).unwrap();
    }
    alerts
}

#[test]
fn one_value_keeps_what_the_stock_alerts_lack() {
    let settings = json!({"onlyMissingFromKubePrometheus": true});
    let Some(released) = released_alerts(&[settings]) else { return };
    assert_same(&released[0], &missing_from_kube_prometheus(), "one value");
}

#[test]
fn one_value_moves_all_runbooks() {
    let settings = json!({"runbookBaseUrl": "https://wiki.example.com/disk-usage"});
    let Some(released) = released_alerts(&[settings]) else { return };
    let mut expected = alerts();
    for alert in expected.values_mut() {
        let runbook = text(&alert["annotations"]["runbook_url"]);
        let moved =
            runbook.replace(&format!("{BASE}docs/runbooks.md#"), "https://wiki.example.com/disk-usage#");
        alert["annotations"]["runbook_url"] = json!(moved);
    }
    assert_same(&released[0], &expected, "one value");
}

/// Volumes between the thresholds, of which each fires one alert at most.
#[test]
fn changed_thresholds_fire_accordingly() {
    if !is_there("promtool", &["--version"]) {
        return;
    }
    let settings =
        json!({"alerts": {"VolumeNearlyFull": {"threshold": 90}, "VolumeFillingUp": {"threshold": 80}}});
    let Some(released) = released(&[values(settings)]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (number, object) in released[0].manifest.all("PrometheusRule").enumerate() {
        std::fs::write(path(&format!("{number}.json")), object["spec"].to_string()).unwrap();
        stdout("promtool", &["check", "rules", path(&format!("{number}.json")).to_str().unwrap()], "");
    }
    // Each grows to this within ten hours.
    let volumes = [("below", 79), ("filling", 89), ("full", 92)];
    let series = volumes.iter().flat_map(|(name, end)| {
        let labels = format!("{{instance=\"i\", node=\"n\", pv_name=\"{name}\"}}");
        let end = format!("{}+0.1x600 {end}x10", end - 60);
        [("pv_disk_usage_percent_used", end.as_str()), ("pv_disk_usage_volume_info", "1x611")]
            .map(|(metric, values)| json!({"series": format!("{metric}{labels}"), "values": values}))
    });
    let firing = |alert: &str, labels: Value| {
        json!({
            "expr": format!("count by (persistentvolume) (ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})"),
            "eval_time": "10h", "exp_samples": [{"labels": labels, "value": 1}],
        })
    };
    let test = json!({
        "interval": "1m", "input_series": series.collect::<Vec<_>>(),
        "promql_expr_test": [
            firing("VolumeNearlyFull", json!("{persistentvolume=\"full\"}")),
            firing("VolumeFillingUp", json!("{persistentvolume=\"filling\"}")),
        ],
    });
    let test = json!({"rule_files": ["*.json"], "evaluation_interval": "1m", "tests": [test]});
    std::fs::write(path("test.yml"), test.to_string()).unwrap();
    stdout("promtool", &["test", "rules", path("test.yml").to_str().unwrap()], "");
}
