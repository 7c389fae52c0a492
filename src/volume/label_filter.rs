//! Which labels of an object become metric labels.

use std::str::FromStr;

use super::Labels;

/// `*`, nothing, or a comma list of names and `prefix*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter(Vec<String>);

impl FromStr for LabelFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let pattern = |pattern: &str| {
            let is_pattern = pattern.strip_suffix('*').unwrap_or(pattern).chars().all(is_known);
            is_pattern.then(|| pattern.to_owned()).ok_or_else(|| {
                format!(
                    "{pattern:?} is no label name; give `*`, nothing, or a comma list of names and `prefix*`"
                )
            })
        };
        let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        patterns.map(pattern).collect::<Result<_, _>>().map(Self)
    }
}

impl LabelFilter {
    /// Keeps the chosen labels.
    pub fn select(&self, labels: Labels) -> Labels {
        let chosen = |name: &str| {
            self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
        };
        labels.into_iter().filter(|(name, _)| chosen(name)).collect()
    }
}

/// Which labels of which objects become metric labels.
#[derive(Debug, Clone)]
pub struct Selections {
    /// Of `PersistentVolume`s.
    pub pv_labels: LabelFilter,
    /// Of `PersistentVolumeClaim`s.
    pub pvc_labels: LabelFilter,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(selection: &str) -> Vec<String> {
        let names = ["app", "app.kubernetes.io/name", "app.kubernetes.io/part-of", "team"];
        let labels = names.map(|name| (name.to_owned(), String::new())).into();
        let selection: LabelFilter = selection.parse().unwrap();
        selection.select(labels).into_keys().collect()
    }

    #[test]
    fn chooses_by_name_and_prefix() {
        let all = ["app", "app.kubernetes.io/name", "app.kubernetes.io/part-of", "team"];
        assert_eq!(selected("*"), all);
        assert_eq!(selected(""), [""; 0]);
        assert_eq!(selected("app"), ["app"]);
        assert_eq!(selected(" team , app.kubernetes.io/* "), all[1..]);
        assert_eq!(selected("nothing,app.*,"), all[1..3]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = "app,te*am".parse::<LabelFilter>().unwrap_err();
        assert!(error.starts_with("\"te*am\" is no label name"), "{error}");
        assert!("app name".parse::<LabelFilter>().is_err());
    }
}
