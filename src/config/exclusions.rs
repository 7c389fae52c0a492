//! Which volumes are not measured.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use clap::Args;

use crate::volume::{Exclusions, NamePatterns};

/// Which volumes are not measured.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the flags")]
pub(super) struct ExclusionArgs {
    /// File-system types, as the mount table has them, whose volumes are not measured: a comma list of names and prefix*.
    #[arg(
        long,
        env = "DISK_USAGE_EXPORTER_FS_TYPES_EXCLUDE",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub fs_types_exclude: NamePatterns,

    /// Storage classes whose volumes are not measured, once the PersistentVolume is known: a comma list of names and prefix*.
    #[arg(
        long,
        env = "DISK_USAGE_EXPORTER_STORAGE_CLASSES_EXCLUDE",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub storage_classes_exclude: NamePatterns,

    /// Namespaces whose claims' volumes are not measured, once claim or pod is known: a comma list of names and prefix*.
    #[arg(
        long,
        env = "DISK_USAGE_EXPORTER_NAMESPACES_EXCLUDE",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub namespaces_exclude: NamePatterns,
}

impl From<ExclusionArgs> for Exclusions {
    fn from(args: ExclusionArgs) -> Self {
        let ExclusionArgs { fs_types_exclude, storage_classes_exclude, namespaces_exclude } = args;
        Self {
            fs_types: fs_types_exclude,
            storage_classes: storage_classes_exclude,
            namespaces: namespaces_exclude,
        }
    }
}
