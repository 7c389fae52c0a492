//! `vol_data.json`: what the kubelet notes beside a CSI volume.

use std::path::PathBuf;

use serde::Deserialize;

use crate::volume::{VolumeMode, VolumeMount};

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

/// Parses the file; `None` where it is half-written.
pub(crate) fn parse(bytes: &[u8]) -> Option<VolData> {
    let data: VolData = serde_json::from_slice(bytes).ok()?;
    (!data.driver_name.is_empty() && !data.volume_handle.is_empty()).then_some(data)
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
}
