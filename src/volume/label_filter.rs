//! Which labels of an object become metric labels, and how many.

use std::str::FromStr;

use super::Labels;
use super::name_patterns::NamePatterns;

/// No more labels than this are used of one object. Kubernetes limits their size, and not their number.
pub const MAX_OBJECT_LABELS: usize = 64;
/// Longer label values are not exposed. Kubernetes allows 63 bytes in labels of objects, and more in what names a volume.
pub const MAX_LABEL_VALUE_BYTES: usize = 1024;
/// The labels of one volume's series together, encoded. What is not used of one object is never more.
pub const MAX_LABEL_SET_BYTES: usize = 16 << 10;

/// A comma list of names and `prefix*`, and of `!name` and `!prefix*`, which exclude; by default `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    included: NamePatterns,
    excluded: NamePatterns,
}

impl Default for LabelFilter {
    fn default() -> Self {
        Self { included: NamePatterns::all(), excluded: NamePatterns::default() }
    }
}

impl FromStr for LabelFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self { included: NamePatterns::default(), excluded: NamePatterns::default() };
        for pattern in text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()) {
            let (patterns, name) = match pattern.strip_prefix('!') {
                Some(name) => (&mut filter.excluded, name),
                None => (&mut filter.included, pattern),
            };
            if !patterns.add(name) {
                return Err(format!(
                    "{pattern:?} is no label name; give `*`, nothing, or a comma list of names and `prefix*`, \
                     with `!` before those to exclude"
                ));
            }
        }
        // A list of exceptions alone is one of exceptions from all labels.
        if filter.included.is_empty() && !filter.excluded.is_empty() {
            filter.included = NamePatterns::all();
        }
        Ok(filter)
    }
}

impl LabelFilter {
    /// Whether a label is chosen.
    pub fn matches(&self, name: &str) -> bool {
        self.included.matches(name) && !self.excluded.matches(name)
    }
}

/// Which labels of which objects become metric labels.
#[derive(Debug, Clone, Default)]
pub struct Selections {
    /// Of `PersistentVolume`s, as `pv_…`.
    pub pv_labels: LabelFilter,
    /// Of `PersistentVolumeClaim`s, as `pvc_…`.
    pub pvc_labels: LabelFilter,
    /// Of either, as `volume_…`; `None` for those that the object's own filter chooses.
    pub volume_labels: Option<LabelFilter>,
}

impl Selections {
    /// The filter of the `volume_…` labels that come from an object with this filter.
    pub fn volume_filter<'a>(&'a self, of_object: &'a LabelFilter) -> &'a LabelFilter {
        self.volume_labels.as_ref().unwrap_or(of_object)
    }

    /// The labels of an object with this filter that are used, and how many of the chosen ones are not: what a tenant can
    /// make large is cut where it enters.
    pub fn limit(&self, of_object: &LabelFilter, labels: Labels) -> (Labels, usize) {
        let is_chosen = |name: &str| of_object.matches(name) || self.volume_filter(of_object).matches(name);
        let (mut used, mut dropped, mut room) = (Labels::new(), 0, MAX_LABEL_SET_BYTES);
        for (name, value) in labels.into_iter().filter(|(name, _)| is_chosen(name)) {
            let bytes = name.len() + value.len();
            if used.len() == MAX_OBJECT_LABELS || value.len() > MAX_LABEL_VALUE_BYTES || bytes > room {
                dropped += 1;
            } else {
                room -= bytes;
                used.insert(name, value);
            }
        }
        (used, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["app", "app.kubernetes.io/name", "app.kubernetes.io/part-of", "team"];

    fn selected(list: &str) -> Vec<&'static str> {
        let filter: LabelFilter = list.parse().unwrap();
        NAMES.into_iter().filter(|name| filter.matches(name)).collect()
    }

    #[test]
    fn chooses_by_name_and_prefix() {
        assert_eq!(selected("*"), NAMES);
        assert_eq!(selected(""), [""; 0]);
        assert_eq!(selected("app"), ["app"]);
        assert_eq!(selected(" team , app.kubernetes.io/* "), NAMES[1..]);
        assert_eq!(selected("nothing,app.*,"), NAMES[1..3]);
    }

    #[test]
    fn exceptions_win_wherever_they_stand_and_alone_are_exceptions_from_all() {
        assert_eq!(selected("*,!team"), NAMES[..3]);
        assert_eq!(selected("!app.kubernetes.io/*,*"), ["app", "team"]);
        assert_eq!(selected("app*, !app"), NAMES[1..3]);
        assert_eq!(selected("!app*"), ["team"]);
        assert_eq!(selected("team,!team"), [""; 0]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        for bad in ["app,te*am", "app name", "!", "app,!!team", "team!"] {
            let pattern = bad.rsplit(',').next().unwrap();
            let error = bad.parse::<LabelFilter>().unwrap_err();
            assert!(error.starts_with(&format!("{pattern:?} is no label name")), "{error}");
        }
    }

    fn numbered(count: usize, value_bytes: usize) -> Labels {
        (0..count).map(|number| (format!("label-{number:05}"), "v".repeat(value_bytes))).collect()
    }

    #[test]
    fn of_an_object_the_first_labels_by_key_are_used_and_the_others_are_counted() {
        let selections = Selections::default();
        let limit = |labels| selections.limit(&selections.pvc_labels, labels);
        assert_eq!(limit(numbered(64, 63)), (numbered(64, 63), 0));
        assert_eq!(limit(numbered(20_000, 63)), (numbered(64, 63), 19_936));
        // By their bytes: a server need not keep to what Kubernetes allows.
        let (used, dropped) = limit(numbered(64, 1024));
        assert_eq!((used.len(), dropped), (15, 49));
        let mut one_is_long = numbered(3, 1024);
        one_is_long.insert("a".into(), "v".repeat(1025));
        assert_eq!(limit(one_is_long), (numbered(3, 1024), 1));
    }

    #[test]
    fn labels_that_no_filter_chooses_take_nobodys_place() {
        let mut labels = numbered(20_000, 63);
        labels.insert("team".into(), "shop".into());
        labels.insert("zone".into(), "a".into());
        let used = |pvc: &str, volume: Option<&str>| {
            let volume_labels = volume.map(|list| list.parse().unwrap());
            let selections =
                Selections { pvc_labels: pvc.parse().unwrap(), volume_labels, ..Selections::default() };
            let (used, dropped) = selections.limit(&selections.pvc_labels, labels.clone());
            assert_eq!(dropped, 0);
            used.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(used("team", None), ["team"]);
        assert_eq!(used("team", Some("zone")), ["team", "zone"]);
        assert_eq!(used("", Some("zone,tea*")), ["team", "zone"]);
        assert_eq!(used("team", Some("")), ["team"]);
    }
}
