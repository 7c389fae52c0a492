//! Which directories are kubelets': the one that is configured, and those that the mount table shows, if they are root's.
//! Users of a node can mount, in a directory of theirs, what looks like a kubelet's volumes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::layout::DEFAULT_KUBELET_ROOT;
use crate::host_files;
use crate::node::host_path;
use crate::runtime::{BlockingWorker, Deadline, SingleJob};

/// Refused directories that are written to the log: users can make any number.
const MAX_LOGGED: usize = 100;

type Root = Vec<u8>;

/// The configured root and the verdicts on those found. They are checked again with each reading of a table.
#[derive(Debug)]
pub(crate) struct KubeletRoots {
    /// `--kubelet-root`, else the usual one.
    path: PathBuf,
    is_given: bool,
    rootfs: PathBuf,
    /// Checks on the node; `None` for a recorded one, where nothing can be checked.
    host_files: Option<BlockingWorker>,
    /// The configured root without symbolic links, as mount tables have it.
    configured: Root,
    /// There is no directory at `--kubelet-root`.
    pub(crate) is_missing: bool,
    /// Those in each of the tables that are read.
    found: [Vec<Root>; 2],
    /// `None` before the first check.
    is_trusted: Option<HashMap<Root, bool>>,
    logged: HashSet<Root>,
    check: SingleJob<RootCheck>,
}

/// A table whose mountpoints are searched for roots.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SearchedTable {
    /// The one whose mounts are measured.
    Own,
    /// That of the host's first process.
    Host,
}

/// The configured root without symbolic links, and what was found in tables with the reason why it is not trusted.
type RootCheck = (io::Result<PathBuf>, Vec<(Root, io::Result<()>)>);

fn check_roots(path: &Path, rootfs: &Path, found: Vec<Root>) -> RootCheck {
    let configured = host_files::resolve(rootfs, path);
    let known = configured.as_deref().unwrap_or(path).as_os_str().as_bytes();
    let check = |root: Root| {
        // What is inside of the configured root is no root, whoever owns it.
        let is_inside = host_path::strip(&root, known).is_some();
        let path = Path::new(OsStr::from_bytes(&root));
        let verdict = if is_inside { Ok(()) } else { host_files::check_owned_by_root(rootfs, path) };
        (root, verdict)
    };
    let found = found.into_iter().map(check).collect();
    (configured, found)
}

impl KubeletRoots {
    pub(crate) fn new(given: Option<PathBuf>, rootfs: PathBuf, host_files: Option<BlockingWorker>) -> Self {
        let is_given = given.is_some();
        let path = given.unwrap_or_else(|| DEFAULT_KUBELET_ROOT.into());
        Self {
            configured: path.as_os_str().as_bytes().to_vec(),
            path,
            is_given,
            rootfs,
            host_files,
            is_missing: false,
            found: Default::default(),
            is_trusted: None,
            logged: HashSet::new(),
            check: SingleJob::default(),
        }
    }

    /// The roots of a table, by what is found in it. Those that are not checked by the deadline are left out for now.
    pub(crate) fn trusted(
        &mut self,
        table: SearchedTable,
        found: Vec<Root>,
        deadline: &Deadline,
    ) -> Vec<Root> {
        self.found[table as usize] = if self.is_given { Vec::new() } else { found };
        if let Some((configured, found)) = self.check(deadline) {
            self.set_configured(configured);
            self.set_verdicts(found);
        }
        let is_trusted = |root: &&Root| {
            host_path::strip(root, &self.configured).is_none()
                && (self.host_files.is_none() || self.verdict(root) == Some(true))
        };
        let mut roots: Vec<Root> = self.found[table as usize].iter().filter(is_trusted).cloned().collect();
        roots.push(self.configured.clone());
        roots.sort_unstable();
        roots
    }

    /// Whether a root may be left out because it is not checked yet.
    pub(crate) fn is_pending(&self) -> bool {
        let is_checked = |root| self.verdict(root).is_some();
        self.host_files.is_some()
            && !(self.is_trusted.is_some() && self.found.iter().flatten().all(is_checked))
    }

    /// How many are left out because they are not root's alone; `None` where nothing is checked.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.host_files.as_ref()?;
        Some(self.is_trusted.iter().flatten().filter(|(_, trusted)| !**trusted).count())
    }

    fn verdict(&self, root: &Root) -> Option<bool> {
        self.is_trusted.as_ref()?.get(root).copied()
    }

    fn check(&mut self, deadline: &Deadline) -> Option<RootCheck> {
        let worker = self.host_files.as_ref()?;
        let found: Vec<Root> = self.found.concat();
        let (path, rootfs) = (self.path.clone(), self.rootfs.clone());
        let start = || worker.run(move || check_roots(&path, &rootfs, found));
        // Without time to wait for it, what is known will do: its result would be too old for the next reading.
        self.check.wait(deadline, || (!deadline.is_over()).then(start))
    }

    fn set_configured(&mut self, configured: io::Result<PathBuf>) {
        // One that was not given may be missing: many distributions have their kubelet elsewhere.
        let is_missing = self.is_given && configured.is_err();
        match configured {
            Ok(path) => self.configured = path.into_os_string().into_vec(),
            Err(error) if is_missing && !self.is_missing => {
                let root = escape(self.path.as_os_str().as_bytes());
                tracing::warn!(
                    event = "kubelet_root_missing", root, %error,
                    "no directory can be opened at --kubelet-root, so no volumes are found: give the kubelet's \
                     --root-dir as the host sees it"
                );
            }
            Err(_) => {}
        }
        self.is_missing = is_missing;
    }

    fn set_verdicts(&mut self, found: Vec<(Root, io::Result<()>)>) {
        for (root, verdict) in &found {
            let Err(cause) = verdict else {
                continue;
            };
            if self.logged.len() >= MAX_LOGGED || !self.logged.insert(root.clone()) {
                continue;
            }
            // As text, so that the log's formatter escapes it.
            let (root, cause) = (escape(root), cause.to_string());
            tracing::warn!(
                event = "kubelet_root_refused",
                root,
                cause,
                "ignoring a directory that looks like a kubelet's, for root alone must own it and every directory above \
                 it; if it is the kubelet's, name it by --kubelet-root"
            );
        }
        self.is_trusted = Some(found.into_iter().map(|(root, verdict)| (root, verdict.is_ok())).collect());
    }
}

fn escape(root: &[u8]) -> String {
    root.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_mins(10);

    fn roots(given: Option<&str>, directory: &tempfile::TempDir, worker: &BlockingWorker) -> KubeletRoots {
        KubeletRoots::new(given.map(Into::into), directory.path().to_owned(), Some(worker.clone()))
    }

    fn trusted(roots: &mut KubeletRoots, found: &[&str], wait: Duration) -> Vec<String> {
        let found = found.iter().map(|root| root.as_bytes().to_vec()).collect();
        let roots = roots.trusted(SearchedTable::Own, found, &Deadline::after(wait));
        roots.into_iter().map(|root| String::from_utf8(root).unwrap()).collect()
    }

    fn node() -> (tempfile::TempDir, BlockingWorker) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("data/kubelet")).unwrap();
        (directory, BlockingWorker::start("test").unwrap())
    }

    #[test]
    fn a_configured_root_is_known_by_the_path_that_tables_have() {
        let (directory, worker) = node();
        std::fs::create_dir_all(directory.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink("/data/kubelet", directory.path().join("var/lib/kubelet")).unwrap();
        let mut usual = roots(None, &directory, &worker);
        let inside = "/data/kubelet/pods/1/volumes/kubernetes.io~nfs/pv/kubelet";
        assert_eq!(trusted(&mut usual, &["/data/kubelet", inside], LONG), ["/data/kubelet"]);
        let mut given = roots(Some("/var/lib/kubelet"), &directory, &worker);
        assert_eq!(trusted(&mut given, &["/elsewhere"], LONG), ["/data/kubelet"], "nothing is searched for");
        assert!(!given.is_missing && !given.is_pending());
    }

    #[test]
    fn only_a_root_that_was_given_has_to_be_there() {
        let (directory, worker) = node();
        let mut usual = roots(None, &directory, &worker);
        assert_eq!(trusted(&mut usual, &[], LONG), [DEFAULT_KUBELET_ROOT]);
        assert!(!usual.is_missing);
        let mut given = roots(Some("/k"), &directory, &worker);
        assert_eq!(trusted(&mut given, &[], LONG), ["/k"]);
        assert!(given.is_missing);
        std::fs::create_dir(directory.path().join("k")).unwrap();
        trusted(&mut given, &[], LONG);
        assert!(!given.is_missing);
    }

    #[test]
    fn a_root_is_left_out_while_its_check_has_not_ended() {
        let (directory, worker) = node();
        let (go_on, gate) = mpsc::channel::<()>();
        let _busy = worker.run(move || gate.recv().is_ok());
        let mut usual = roots(None, &directory, &worker);
        assert_eq!(trusted(&mut usual, &["/data/kubelet"], Duration::from_millis(1)), [DEFAULT_KUBELET_ROOT]);
        assert_eq!((usual.is_pending(), usual.refused()), (true, Some(0)));
        // Were it waited for again, this would take ten minutes.
        assert_eq!(trusted(&mut usual, &["/data/kubelet"], LONG), [DEFAULT_KUBELET_ROOT]);
        go_on.send(()).unwrap();
        worker.run(|| ()).wait(&Deadline::after(LONG)).unwrap().unwrap();
        trusted(&mut usual, &["/data/kubelet"], LONG);
        assert!(!usual.is_pending());
    }

    #[test]
    fn a_recorded_node_is_not_checked() {
        let mut recorded = KubeletRoots::new(None, "/nowhere".into(), None);
        let found =
            trusted(&mut recorded, &["/home/u/kubelet", "/var/lib/kubelet/pods/1/volumes/x/kubelet"], LONG);
        assert_eq!(found, ["/home/u/kubelet", DEFAULT_KUBELET_ROOT]);
        assert_eq!((recorded.is_pending(), recorded.refused()), (false, None));
    }
}
