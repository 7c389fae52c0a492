//! `vol_data.json`: what the kubelet notes beside a CSI volume.

use std::path::PathBuf;

use serde::Deserialize;

use crate::volume::{MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES, VolumeMode, VolumeMount};

/// What the file says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolData {
    /// The volume's name, not escaped as its directory's is.
    #[serde(rename = "specVolID")]
    pub(crate) name: Option<String>,
    pub(crate) driver_name: String,
    pub(crate) volume_handle: String,
    volume_lifecycle_mode: Option<String>,
}

impl VolData {
    /// Whether it is a pod's own volume: no `PersistentVolume`.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.volume_lifecycle_mode.as_deref() == Some("Ephemeral")
    }
}

/// Where the kubelet writes the file for a mount.
pub(crate) fn path(mount: &VolumeMount) -> Option<PathBuf> {
    let (levels, file) = match mount.mode {
        VolumeMode::Filesystem => (1, "vol_data.json"),
        VolumeMode::Block => (2, "data/vol_data.json"),
    };
    Some(mount.mountpoint.ancestors().nth(levels)?.join(file))
}

/// Parses the file; `None` where it is half-written, or has names that Kubernetes does not allow: it is not the kubelet's.
pub(crate) fn parse(bytes: &[u8]) -> Option<VolData> {
    let data: VolData = serde_json::from_slice(bytes).ok()?;
    let names = [(&data.driver_name, MAX_NAME_BYTES), (&data.volume_handle, MAX_LABEL_VALUE_BYTES)];
    let is_named = names.iter().all(|(name, limit)| (1..=*limit).contains(&name.len()));
    let is_valid = data.name.as_ref().is_none_or(|name| name.len() <= MAX_NAME_BYTES);
    (is_named && is_valid).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"attachmentID":"csi-a4","driverName":"hostpath.csi.k8s.io","nodeName":"node-1",
        "specVolID":"pvc-csi-fs","volumeHandle":"8ba54f15","volumeLifecycleMode":"Persistent"}"#;

    #[test]
    fn reads_what_the_kubelet_writes() {
        let data = parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(data.name.as_deref(), Some("pvc-csi-fs"));
        assert_eq!(data.driver_name, "hostpath.csi.k8s.io");
        assert_eq!(data.volume_handle, "8ba54f15");
        assert!(!data.is_ephemeral());
        let inline = WHOLE.replace("Persistent", "Ephemeral");
        assert!(parse(inline.as_bytes()).unwrap().is_ephemeral());
        let unknown = WHOLE.replace("Persistent", "Eternal");
        assert!(!parse(unknown.as_bytes()).unwrap().is_ephemeral());
    }

    #[test]
    fn half_a_file_is_none() {
        for length in 0..WHOLE.len() {
            assert_eq!(parse(&WHOLE.as_bytes()[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(br#"{"driverName":"","volumeHandle":"h"}"#), None);
    }

    #[test]
    fn names_longer_than_any_are_refused() {
        let parsed = |name: usize, driver: usize, handle: usize| {
            let [name, driver, handle] = [name, driver, handle].map(|length| "x".repeat(length));
            let text =
                format!(r#"{{"specVolID":"{name}","driverName":"{driver}","volumeHandle":"{handle}"}}"#);
            parse(text.as_bytes()).is_some()
        };
        assert!(parsed(253, 253, 1024));
        assert!(!parsed(254, 253, 1024));
        assert!(!parsed(253, 254, 1024));
        assert!(!parsed(253, 253, 1025));
    }
}
