//! Lists of names and of beginnings of names, as flags have them.

use std::str::FromStr;

/// Names, and `prefix*` for all names that begin so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamePatterns(Vec<String>);

impl FromStr for NamePatterns {
    type Err = String;

    /// A comma list; nothing is a list without patterns.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut patterns = Self::default();
        for pattern in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            if !patterns.add(pattern) {
                return Err(format!(
                    "{pattern:?} is no name; give nothing, or a comma list of names and `prefix*`"
                ));
            }
        }
        Ok(patterns)
    }
}

impl NamePatterns {
    /// `*`: every name.
    pub(super) fn all() -> Self {
        Self(vec!["*".into()])
    }

    /// Adds a pattern; `false` if it is none.
    pub(super) fn add(&mut self, pattern: &str) -> bool {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let is_pattern = !pattern.is_empty() && name.chars().all(is_known);
        self.0.extend(is_pattern.then(|| pattern.to_owned()));
        is_pattern
    }

    /// Whether a name is one of these.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    }

    /// Whether it matches nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_match_and_an_empty_list_matches_nothing() {
        let matched = |list: &str| -> Vec<&str> {
            let patterns: NamePatterns = list.parse().unwrap();
            ["nfs", "nfs4", "fuse.s3fs", "fuse.rclone"]
                .into_iter()
                .filter(|name| patterns.matches(name))
                .collect()
        };
        assert_eq!(matched(""), [""; 0]);
        assert_eq!(matched(" "), [""; 0]);
        assert_eq!(matched("nfs"), ["nfs"]);
        assert_eq!(matched(" fuse.* , nfs4 "), ["nfs4", "fuse.s3fs", "fuse.rclone"]);
        assert_eq!(matched("NFS,fs"), [""; 0], "case counts, and a name is a whole one");
        assert_eq!(matched("*").len(), 4);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        for (list, pattern) in [
            ("nfs,", ""),
            (",nfs", ""),
            ("a,,b", ""),
            ("n*s", "n*s"),
            ("nfs,!fuse.*", "!fuse.*"),
            ("a**", "a**"),
            ("a b", "a b"),
        ] {
            let error = list.parse::<NamePatterns>().unwrap_err();
            assert!(error.starts_with(&format!("{pattern:?} is no name; give ")), "{list}: {error}");
        }
    }
}
