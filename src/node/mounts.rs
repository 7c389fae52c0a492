//! Which mounts of the node are volumes.

pub(super) mod device_links;
pub(super) mod layout;
pub(super) mod matcher;
pub(super) mod mount_table;
pub(super) mod mountinfo;
pub(super) mod name_lookup;
pub(super) mod vol_data;
