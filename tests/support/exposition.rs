//! A strict parser of the text format 0.0.4, written from its description. It refuses what would lose Prometheus data.

use std::collections::{BTreeMap, HashSet};

/// A sample's labels, in the order written.
pub(crate) type Labels = Vec<(String, String)>;

/// A parsed exposition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exposition {
    pub(crate) families: Vec<String>,
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

impl Exposition {
    /// Parses; panics on everything that is wrong.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let mut seen = HashSet::new();
        let mut is_histogram = false;
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        // Not `lines()`: a carriage return is a character like any other.
        for line in text.strip_suffix('\n').unwrap_or_default().split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let name = help.split(' ').next().unwrap().to_owned();
                assert!(!parsed.families.contains(&name), "{name} is not contiguous");
                parsed.families.push(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(Some(name), parsed.families.last().map(String::as_str), "TYPE follows HELP");
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                is_histogram = kind == "histogram";
            } else {
                let sample = sample(line);
                let suffixes = ["_bucket", "_sum", "_count"];
                let family = match suffixes.iter().find_map(|suffix| sample.0.strip_suffix(suffix)) {
                    Some(family) if is_histogram => family,
                    _ => &sample.0,
                };
                let last = parsed.families.last().map(String::as_str);
                assert_eq!(Some(family), last, "outside its family: {line}");
                let sorted: BTreeMap<_, _> = sample.1.iter().cloned().collect();
                assert_eq!(sorted.len(), sample.1.len(), "a label twice: {line}");
                // To Prometheus an empty label is none.
                let identity: Vec<_> = sorted.into_iter().filter(|(_, value)| !value.is_empty()).collect();
                assert!(seen.insert((sample.0.clone(), identity)), "a series twice: {line}");
                parsed.samples.push(sample);
            }
        }
        parsed
    }

    /// The value of the only series of `name` that has these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let series = self.all(name, labels);
        assert!(series.len() < 2, "{name}{labels:?} is not one series: {series:?}");
        series.first().map(|(_, value)| *value)
    }

    /// All series of `name` that have these labels.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(&Labels, f64)> {
        let has = |own: &Labels| labels.iter().all(|(k, v)| own.iter().any(|(ok, ov)| ok == k && ov == v));
        let samples = self.samples.iter().filter(|(n, own, _)| n == name && has(own));
        samples.map(|(_, own, value)| (own, *value)).collect()
    }

    /// The value of a label in every series of `name`, in order.
    pub(crate) fn label(&self, name: &str, label: &str) -> Vec<&str> {
        let series = self.samples.iter().filter(|(n, ..)| n == name);
        let values = series.filter_map(|(_, labels, _)| labels.iter().find(|(key, _)| key == label));
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// Name and value of a volume's series, of the families that carry the volume's labels.
    pub(crate) fn volume(&self, pv_name: &str) -> BTreeMap<&str, f64> {
        let infos = [
            "pv_disk_usage_claim_requested_bytes",
            "pv_disk_usage_error",
            "pv_disk_usage_filesystem_volumes",
            "pv_disk_usage_mount_info",
            "pv_disk_usage_volume_info",
        ];
        let of_volume = self.samples.iter().filter(|(name, labels, _)| {
            name.starts_with("pv_disk_usage_")
                && !infos.contains(&name.as_str())
                && labels.iter().any(|(key, value)| key == "pv_name" && value == pv_name)
        });
        of_volume.map(|(name, _, value)| (name.as_str(), *value)).collect()
    }
}

fn sample(line: &str) -> (String, Labels, f64) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !is_name(c)).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(!key.is_empty() && key.chars().all(is_name), "label name {key:?}: {line}");
            let (value, after) = quoted(after);
            labels.push((key.to_owned(), value));
            rest = after;
            if let Some(end) = rest.strip_prefix('}') {
                rest = end;
                break;
            }
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("no comma: {line}"));
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no space: {line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, '\\')) => '\\',
                Some((_, '"')) => '"',
                Some((_, 'n')) => '\n',
                other => panic!("no escape of this format: {other:?} in {text}"),
            }),
            _ => value.push(c),
        }
    }
    panic!("no closing quote: {text}")
}
