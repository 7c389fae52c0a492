//! Where collections take what is known about volumes from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cluster::{Api, ObjectsFile};
use crate::snapshot::{RequestCount, SourceStatus};
use crate::volume::{Metadata, VolumeMount};

/// One place, or none.
pub enum MetadataSource {
    /// Volumes are known by their mounts alone.
    None(Arc<Metadata>),
    /// A file of objects.
    Objects(ObjectsFile),
    /// An API server.
    Api(Api),
}

/// How it goes.
#[derive(Debug, Default)]
pub(super) struct MetadataStatus {
    pub(super) sources: Vec<SourceStatus>,
    pub(super) age: Option<Duration>,
    pub(super) requests: Vec<RequestCount>,
}

impl MetadataSource {
    /// What is known now about these mounts.
    pub(super) fn metadata(&mut self, mounts: &[Arc<VolumeMount>]) -> Arc<Metadata> {
        match self {
            Self::None(nothing) => Arc::clone(nothing),
            Self::Objects(file) => file.metadata(),
            Self::Api(api) => api.metadata(mounts),
        }
    }

    pub(super) fn status(&self) -> MetadataStatus {
        match self {
            Self::None(_) => MetadataStatus::default(),
            Self::Objects(file) => MetadataStatus {
                sources: vec![SourceStatus { name: "objects", success: file.success() }],
                age: file.age(SystemTime::now()),
                requests: Vec::new(),
            },
            Self::Api(api) => {
                let status = api.status();
                let source = |(name, success)| SourceStatus { name, success };
                let count = |(resource, verb, code, count)| RequestCount { resource, verb, code, count };
                MetadataStatus {
                    sources: status.success.into_iter().map(source).collect(),
                    age: status.age,
                    requests: status.requests.into_iter().map(count).collect(),
                }
            }
        }
    }
}

impl Default for MetadataSource {
    fn default() -> Self {
        Self::None(Arc::default())
    }
}
