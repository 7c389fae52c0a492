//! The labels of a volume, and the encoding of label sets.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::volume::{LabelFilter, Labels, MAX_LABEL_VALUE_BYTES, Selections, Volume};

/// Reserved label names: an object's label of that name gets a suffix.
const FIXED: [&str; 7] = [
    "pv_name",
    "pvc_name",
    "pvc_namespace",
    "volume_name",
    "volume_label_source",
    "volume_type",
    "volume_instance",
];

/// An encoded label set: `{a="b",c="d"}`, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct LabelSet {
    encoded: String,
    /// Labels that were left out because of their size.
    pub(super) dropped: usize,
}

impl LabelSet {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.encoded.as_bytes()
    }

    /// The same with another label, if there is a value, and it is not longer than any is to be: a path's beginning would be
    /// another path.
    pub(super) fn with<'a>(mut self, name: &str, value: impl Into<Option<&'a str>>) -> Self {
        if let Some(value) = value.into() {
            self.push(name, value);
        }
        self
    }

    fn push(&mut self, name: &str, value: &str) {
        if value.len() > MAX_LABEL_VALUE_BYTES {
            self.dropped += 1;
            return;
        }
        let out = &mut self.encoded;
        let is_first = out.pop().is_none();
        out.push(if is_first { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(c),
            }
        }
        out.push_str("\"}");
    }
}

/// A label of a volume's series.
struct VolumeLabel<'a> {
    name: Cow<'static, str>,
    value: &'a str,
    /// It is an object's: there can be any number of these.
    is_of_object: bool,
}

/// The labels of the series of one volume. Of the objects' labels those are left out that do not fit in.
pub(super) fn volume_labels(volume: &Volume, selections: &Selections, max_bytes: usize) -> LabelSet {
    let labels = all_labels(volume, selections);
    let encoded_bytes = |VolumeLabel { name, value, .. }: &VolumeLabel<'_>| {
        name.len() + value.len() + value.matches(['\\', '"', '\n']).count() + r#"="","#.len()
    };
    let fixed = labels.iter().filter(|label| !label.is_of_object);
    let fixed_bytes = fixed.map(encoded_bytes).sum::<usize>() + "{".len();
    let mut room = max_bytes.saturating_sub(fixed_bytes);
    let mut set = LabelSet::default();
    for label in labels {
        if label.is_of_object {
            let Some(left) = room.checked_sub(encoded_bytes(&label)) else {
                set.dropped += 1;
                continue;
            };
            room = left;
        }
        set.push(&label.name, label.value);
    }
    set
}

/// All labels of a volume, in their order.
fn all_labels<'a>(volume: &'a Volume, selections: &Selections) -> Vec<VolumeLabel<'a>> {
    let fixed = |name: &'static str, value: Option<&'a str>| {
        value.map(|value| VolumeLabel { name: name.into(), value, is_of_object: false })
    };
    let key = volume.claim.key.as_deref();
    let claim_name = key.map(|key| key.name.as_str());
    let source = volume.source();
    let pv_labels = volume.pv.as_ref().map(|pv| &pv.labels);
    let claim_labels = volume.claim.object().map(|claim| &claim.labels);
    let of_claim = object_labels("volume_", claim_labels, selections.volume_filter(&selections.pvc_labels));
    let (label_source, of_volume) = if of_claim.is_empty() {
        let filter = selections.volume_filter(&selections.pv_labels);
        (pv_labels.map(|_| "pv"), object_labels("volume_", pv_labels, filter))
    } else {
        (Some("pvc"), of_claim)
    };
    let mut all = Vec::from_iter(fixed("pv_name", Some(&volume.pv_name)));
    all.extend(object_labels("pv_", pv_labels, &selections.pv_labels));
    all.extend(fixed("pvc_name", claim_name));
    all.extend(fixed("pvc_namespace", key.map(|key| key.namespace.as_str())));
    all.extend(object_labels("pvc_", claim_labels, &selections.pvc_labels));
    all.extend(fixed("volume_name", claim_name.or(Some(&volume.pv_name))));
    all.extend(fixed("volume_label_source", label_source));
    all.extend(fixed("volume_type", source.map(|(kind, _)| kind)));
    all.extend(fixed("volume_instance", source.and_then(|(_, instance)| instance)));
    all.extend(of_volume);
    all
}

/// Those of an object's labels that a filter chooses. Labels that would get one name, or a name that is taken, each get a
/// number instead. Names of different prefixes never meet.
fn object_labels<'a>(prefix: &str, labels: Option<&'a Labels>, filter: &LabelFilter) -> Vec<VolumeLabel<'a>> {
    let name = |key: &str| prefix.to_owned() + &key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let chosen = labels.into_iter().flatten().filter(|(key, _)| filter.matches(key));
    let chosen: Vec<(String, &str)> = chosen.map(|(key, value)| (name(key), value.as_str())).collect();
    let mut count: HashMap<&str, usize> = HashMap::with_capacity(chosen.len());
    for (name, _) in &chosen {
        *count.entry(name).or_default() += 1;
    }
    let mut last_number: HashMap<&str, usize> = HashMap::new();
    let mut all = Vec::with_capacity(chosen.len());
    for (name, value) in &chosen {
        let mut unique = name.clone();
        if count[name.as_str()] > 1 || FIXED.contains(&name.as_str()) {
            let number = last_number.entry(name).or_default();
            while count.contains_key(unique.as_str()) {
                *number += 1;
                unique = format!("{name}_conflict{number}");
            }
        }
        all.push(VolumeLabel { name: unique.into(), value, is_of_object: true });
    }
    all
}

#[cfg(test)]
mod tests;
