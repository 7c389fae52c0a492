//! The labels of a volume, and the encoding of label sets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LabelSet {
    encoded: Vec<u8>,
    /// Labels that were left out because of their size.
    pub(super) dropped: usize,
}

impl LabelSet {
    pub(super) fn new<'a>(labels: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>) -> Self {
        let mut set = Self::default();
        for (name, value) in labels {
            set.push(name, &value);
        }
        set.close()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// Adds a label, unless its value is longer than any is to be: a path's beginning would be another path.
    fn push(&mut self, name: &str, value: &str) {
        if value.len() > MAX_LABEL_VALUE_BYTES {
            self.dropped += 1;
            return;
        }
        let out = &mut self.encoded;
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        for byte in value.bytes() {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'"' => out.extend_from_slice(b"\\\""),
                b'\n' => out.extend_from_slice(b"\\n"),
                _ => out.push(byte),
            }
        }
        out.push(b'"');
    }

    fn close(mut self) -> Self {
        if !self.encoded.is_empty() {
            self.encoded.push(b'}');
        }
        self
    }
}

/// A path or device name as a label's value: bytes that are not UTF-8 become U+FFFD.
pub(super) fn lossy(text: &OsStr) -> Cow<'_, str> {
    String::from_utf8_lossy(text.as_bytes())
}

/// A label of a volume's series.
struct VolumeLabel<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    /// It is an object's: there can be any number of these.
    is_of_object: bool,
}

impl VolumeLabel<'_> {
    /// Its size, with what separates it from the next one.
    fn encoded_bytes(&self) -> usize {
        let escapes = self.value.bytes().filter(|byte| matches!(byte, b'\\' | b'"' | b'\n')).count();
        self.name.len() + self.value.len() + escapes + r#"="","#.len()
    }
}

/// The labels of the series of one volume. Of the objects' labels those are left out that do not fit in.
pub(super) fn volume_labels(volume: &Volume, selections: &Selections, max_bytes: usize) -> LabelSet {
    let labels = all_labels(volume, selections);
    let fixed = labels.iter().filter(|label| !label.is_of_object);
    let fixed_bytes = fixed.map(VolumeLabel::encoded_bytes).sum::<usize>() + "{".len();
    let mut room = max_bytes.saturating_sub(fixed_bytes);
    let mut set = LabelSet::default();
    for label in labels {
        if label.is_of_object {
            let Some(left) = room.checked_sub(label.encoded_bytes()) else {
                set.dropped += 1;
                continue;
            };
            room = left;
        }
        set.push(&label.name, &label.value);
    }
    set.close()
}

/// All labels of a volume, in their order.
fn all_labels<'a>(volume: &'a Volume, selections: &Selections) -> Vec<VolumeLabel<'a>> {
    let mut all = Vec::new();
    let fixed = |name: &'static str, value: Cow<'a, str>| VolumeLabel {
        name: name.into(),
        value,
        is_of_object: false,
    };
    let pv_name = volume.pv_name.as_str();
    all.push(fixed("pv_name", pv_name.into()));
    let pv = volume.pv.as_deref();
    if let Some(pv) = pv {
        all.extend(prefixed_labels("pv_", &pv.labels, &selections.pv_labels));
    }
    let claim_key = volume.claim.key.as_deref();
    if let Some(key) = claim_key {
        all.push(fixed("pvc_name", key.name.as_str().into()));
        all.push(fixed("pvc_namespace", key.namespace.as_str().into()));
    }
    let claim = volume.claim.object();
    if let Some(claim) = claim {
        all.extend(prefixed_labels("pvc_", &claim.labels, &selections.pvc_labels));
    }
    all.push(fixed("volume_name", claim_key.map_or(pv_name, |key| &key.name).into()));
    let of_volume = |labels: &'a Labels, filter: &LabelFilter| {
        prefixed_labels("volume_", labels, selections.volume_filter(filter))
    };
    let of_claim = claim.map(|claim| ("pvc", of_volume(&claim.labels, &selections.pvc_labels)));
    let of_claim = of_claim.filter(|(_, labels)| !labels.is_empty());
    let of_pv = || pv.map(|pv| ("pv", of_volume(&pv.labels, &selections.pv_labels)));
    let source_labels = of_claim.or_else(of_pv);
    all.extend(source_labels.iter().map(|(source, _)| fixed("volume_label_source", (*source).into())));
    if let Some(source) = volume.source().map(Cow::into_owned) {
        all.push(fixed("volume_type", source.kind.into()));
        all.extend(source.instance.map(|instance| fixed("volume_instance", instance.into())));
    }
    all.extend(source_labels.into_iter().flat_map(|(_, labels)| labels));
    all
}

/// Those of an object's labels that a filter chooses. Labels that would get one name, or a name that is taken, each get a
/// number instead. Names of different prefixes never meet.
fn prefixed_labels<'a>(prefix: &str, labels: &'a Labels, filter: &LabelFilter) -> Vec<VolumeLabel<'a>> {
    let chosen = labels.iter().filter(|(key, _)| filter.matches(key));
    let chosen: Vec<(String, &str)> =
        chosen.map(|(key, value)| (prefixed(prefix, key), value.as_str())).collect();
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
        all.push(VolumeLabel { name: unique.into(), value: (*value).into(), is_of_object: true });
    }
    all
}

/// An object's label as a metric's.
fn prefixed(prefix: &str, key: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    prefix.chars().chain(key.chars().map(known)).collect()
}

#[cfg(test)]
mod tests;
