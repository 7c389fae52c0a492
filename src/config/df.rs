//! What is typed after `df`.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::time::Duration;

use super::duration;
use super::values::{namespace, percent};
use crate::report::{Output, TableOptions};

/// What `df` shows, and how often.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of df")]
pub struct DfArgs {
    /// Exact bytes instead of KiB, MiB and so on.
    #[arg(short, long)]
    pub bytes: bool,

    /// Inodes instead of bytes: in the table, its order and --over.
    #[arg(short, long, conflicts_with = "bytes")]
    pub inodes: bool,

    /// A comma list of columns, or json for everything [default: namespace,claim,used%,used,size,available,pods,volume]; others are inodes-used%, inodes-used, inodes, inodes-available, requested, type, instance, storage-class, mode, readonly, device, fstype, mountpoint, error.
    #[arg(short, long, value_name = "COLUMNS")]
    pub output: Option<Output>,

    /// Only volumes of claims in this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace)]
    pub namespace: Option<String>,

    /// Only volumes of which at least so many percent are in use; exit code 3 if there is one.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub over: Option<f64>,

    /// Again and again, with such a pause; 2s if none is given.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = duration::parse_positive)]
    pub watch: Option<Duration>,
}

impl DfArgs {
    /// What is shown.
    #[must_use]
    pub fn options(&self) -> TableOptions {
        let Self { bytes, inodes, output, namespace, over, watch: _ } = self;
        TableOptions {
            output: output.clone().unwrap_or_default(),
            exact: *bytes,
            inodes: *inodes,
            namespace: namespace.clone(),
            over: *over,
        }
    }

    /// Whether a terminal may be coloured, as <https://no-color.org> has it, and knows colours.
    #[must_use]
    pub fn may_colour() -> bool {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        is_wanted && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Args;

    #[test]
    fn a_bad_value_names_flag_value_and_remedy() {
        let cases = [
            (&["-o=size%"][..], &["size%", "--output", "comma list of namespace, claim"][..]),
            (&["--over=101"], &["101", "--over", "give a percentage"]),
            (&["--over=NaN"], &["NaN", "--over", "give a percentage"]),
            (&["--over=-1"], &["-1", "--over", "give a percentage"]),
            (&["--watch=5"], &["'5'", "--watch", "give a duration"]),
            (&["-n", "A b"], &["A b", "--namespace", "kubectl get namespaces"]),
            (&["-b", "-i"], &["--bytes", "--inodes"]),
        ];
        for (args, parts) in cases {
            let typed = ["disk-usage-exporter", "df"].iter().chain(args);
            let error = Args::command_line().try_get_matches_from(typed).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
        }
    }
}
