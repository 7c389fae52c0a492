use std::collections::BTreeMap;
use std::time::Instant;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::support::PATIENCE;
use crate::support::fuse::Behaviour;
use crate::support::namespace::{Needs, Node, in_namespace, unmount};
use crate::support::subject::{FEW_THREADS, HANGING, Subject, all, healthy, outcomes, volumes};

/// More than `FEW_THREADS`, so that their threads show.
const ILL: usize = 20;

/// A node, a few of whose volumes stay healthy.
struct Ward<'a> {
    it: Subject<'a>,
    well: Vec<(String, Behaviour)>,
    ill: Vec<(String, Behaviour)>,
}

impl<'a> Ward<'a> {
    fn start(node: &'a Node) -> Self {
        let (well, ill) = (volumes("well", 3, healthy()), volumes("ill", ILL, healthy()));
        let it = Subject::start(node, &[&well[..], &ill].concat(), &["--stat-timeout=1h"]);
        let ward = Self { it, well, ill };
        assert_eq!(ward.scrape(), ward.expected(Some("measured")));
        ward
    }

    fn scrape(&self) -> BTreeMap<String, String> {
        outcomes(&self.it.exporter.scrape())
    }

    /// The healthy ones measured, and this of the others.
    fn expected(&self, ill: Option<&str>) -> BTreeMap<String, String> {
        let mut expected = all(&self.well, "measured");
        expected.extend(ill.into_iter().flat_map(|outcome| all(&self.ill, outcome)));
        expected
    }

    /// Makes the others hang, and the program know it.
    fn hang(&self, hanging: Behaviour) {
        self.it.set(&self.ill, hanging);
        let expected = self.expected(Some("timeout"));
        assert_eq!(outcomes(&self.it.exporter.scrape_within(1.0)), expected);
        assert_eq!(self.scrape(), expected);
        assert!(self.it.exporter.threads() > ILL);
    }

    /// Each says this as soon as its thread is back, and all threads come back.
    fn assert_back(&self, outcome: &str) {
        let start = Instant::now();
        let (hung, back) = (self.expected(Some("timeout")), self.expected(Some(outcome)));
        loop {
            let scrape = self.scrape();
            if scrape == back {
                break;
            }
            for (name, now) in &scrape {
                assert!(*now == hung[name] || *now == back[name], "{name}: {now}");
            }
            assert!(start.elapsed() < PATIENCE, "{scrape:#?}");
        }
        self.it.exporter.wait_for_threads(FEW_THREADS);
    }
}

#[test]
fn mounts_that_answer_again_are_measured_again() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for hanging in [HANGING, HANGING].concat() {
            ward.hang(hanging);
            ward.it.set(&ward.ill, healthy());
            ward.assert_back("measured");
        }
    });
}

#[test]
fn mounts_that_hang_may_fail_at_last() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for hanging in HANGING {
            for (errno, reason) in [(Errno::ESTALE, "stale"), (Errno::EIO, "io")] {
                ward.hang(hanging);
                ward.it.set(&ward.ill, Behaviour::Fails(errno));
                ward.assert_back(reason);
            }
        }
    });
}

#[test]
fn mounts_whose_hanging_server_dies_are_not_connected() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for hanging in HANGING {
            ward.hang(hanging);
            for (name, _) in &ward.ill {
                ward.it.fuse.die(name);
            }
            ward.assert_back("not_connected");
            for (name, _) in &ward.ill {
                unmount(&ward.it.path(name));
            }
            assert_eq!(ward.scrape(), ward.expected(None));
            // Mounted again, they are what they are now.
            ward.it.mount(&ward.ill);
            assert_eq!(ward.scrape(), ward.expected(Some("measured")));
        }
    });
}

#[test]
fn what_a_mount_says_instead_of_figures_is_told_by_the_next_scrape() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for (errno, reason) in [
            (Errno::ENOTCONN, "not_connected"),
            (Errno::EHOSTDOWN, "not_connected"),
            (Errno::ESTALE, "stale"),
            (Errno::EIO, "io"),
            (Errno::EACCES, "permission"),
            (Errno::ETIMEDOUT, "timeout"),
            (Errno::ENOSYS, "other"),
        ] {
            ward.it.set(&ward.ill, Behaviour::Fails(errno));
            assert_eq!(ward.scrape(), ward.expected(Some(reason)), "{errno}");
            ward.it.set(&ward.ill, healthy());
            assert_eq!(ward.scrape(), ward.expected(Some("measured")), "after {errno}");
        }
        for (name, _) in &ward.ill {
            ward.it.fuse.die(name);
        }
        assert_eq!(ward.scrape(), ward.expected(Some("not_connected")), "their server died");
    });
}

#[test]
fn mounts_unmounted_lazily_are_gone_and_their_places_free() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for hanging in HANGING {
            ward.hang(hanging);
            for (name, _) in &ward.ill {
                umount2(&ward.it.path(name), MntFlags::MNT_DETACH).unwrap();
            }
            assert_eq!(ward.scrape(), ward.expected(None));
            // The kernel lets nobody go who hangs: the mount that nobody sees lives on until its server dies.
            assert!(ward.it.exporter.threads() > ILL);
            let graves = ward.it.fuse.rename_all("ill", "grave");
            ward.it.mount(&ward.ill);
            assert_eq!(ward.scrape(), ward.expected(Some("measured")), "another mount in that place");
            for name in graves {
                ward.it.fuse.die(&name);
            }
            ward.it.exporter.wait_for_threads(FEW_THREADS);
            assert_eq!(ward.scrape(), ward.expected(Some("measured")));
        }
    });
}

#[test]
fn mounts_unmounted_by_force_are_gone_with_their_threads() {
    in_namespace(Needs::Fuse, |node| {
        let ward = Ward::start(node);
        for hanging in HANGING {
            ward.hang(hanging);
            for (name, _) in &ward.ill {
                // What hangs is ended first; until it has gone, the mount is busy.
                while umount2(&ward.it.path(name), MntFlags::MNT_FORCE) == Err(Errno::EBUSY) {}
                ward.it.fuse.die(name);
            }
            assert_eq!(ward.scrape(), ward.expected(None));
            ward.it.exporter.wait_for_threads(FEW_THREADS);
            ward.it.mount(&ward.ill);
            assert_eq!(ward.scrape(), ward.expected(Some("measured")));
        }
    });
}
