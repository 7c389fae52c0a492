//! FUSE file systems that behave as a test says, now and whenever it says otherwise. One thread serves all of them,
//! each on a descriptor of its own, so that none waits for another.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::PATIENCE;
use wire::Request;
pub(crate) use wire::{Figures, Opcode};

/// Why no FUSE file system can be mounted here, if so.
pub(crate) fn missing() -> Option<String> {
    wire::open().err().map(|error| format!("/dev/fuse cannot be opened: {error}"))
}

/// What a file system does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Answers(Figures),
    AnswersAfter(Duration),
    Fails(Errno),
    /// Requests are read and kept, until it behaves otherwise.
    Silent,
    /// Requests are not even read, until it behaves otherwise.
    Deaf,
}

/// The file systems; when dropped they end, which frees every process that hangs in one.
pub(crate) struct Fuse(Arc<Shared>);

struct Shared {
    epoll: Epoll,
    /// In the order in which they were mounted.
    served: Mutex<BTreeMap<u64, Served>>,
    request_read: Condvar,
}

struct Served {
    name: String,
    device: Arc<File>,
    behaviour: Behaviour,
    /// Requests that were read and not answered.
    held: Vec<Request>,
    /// How often each request was read.
    asked: BTreeMap<Opcode, usize>,
}

impl Fuse {
    pub(crate) fn start() -> Self {
        let (_, max) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, max, max).unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let shared = Arc::new(Shared { epoll, served: Mutex::default(), request_read: Condvar::new() });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || server.serve());
        Self(shared)
    }

    /// Mounts one.
    pub(crate) fn mount(&self, name: &str, path: &Path, behaviour: Behaviour) {
        let device = Arc::new(wire::open().unwrap());
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some(name), path, Some("fuse"), MsFlags::empty(), Some(&options[..])).unwrap();
        let mut all = self.0.lock();
        let key = all.last_key_value().map_or(0, |(last, _)| last + 1);
        let served =
            Served { name: name.to_owned(), device, behaviour, held: vec![], asked: BTreeMap::new() };
        self.0.listen_unless_deaf(key, &served);
        all.insert(key, served);
        drop(self.wait(all, |all| all[&key].has_begun()));
    }

    /// From now on it does this; requests that it kept are answered so too.
    pub(crate) fn set(&self, name: &str, behaviour: Behaviour) {
        let mut all = self.0.lock();
        let (key, served) = all.iter_mut().find(|(_, served)| served.name == name).unwrap();
        served.behaviour = behaviour;
        for request in std::mem::take(&mut served.held) {
            served.act(request);
        }
        self.0.listen_unless_deaf(*key, served);
    }

    /// Ends the server of the oldest file system of this name, if its last unmount has not done so.
    pub(crate) fn die(&self, name: &str) {
        let mut all = self.0.lock();
        let oldest = all.iter().find_map(|(key, served)| (served.name == name).then_some(*key));
        oldest.and_then(|key| all.remove(&key));
    }

    /// What each was asked, as far as it has read, and how often.
    pub(crate) fn asked(&self) -> BTreeMap<String, BTreeMap<Opcode, usize>> {
        self.0.lock().values().map(|served| (served.name.clone(), served.asked.clone())).collect()
    }

    /// Waits until that many of them keep requests; their names.
    pub(crate) fn wait_until_held(&self, count: usize) -> BTreeSet<String> {
        let held = |all: &BTreeMap<u64, Served>| -> BTreeSet<String> {
            all.values().filter(|one| !one.held.is_empty()).map(|one| one.name.clone()).collect()
        };
        held(&self.wait(self.0.lock(), |all| held(all).len() >= count))
    }

    fn wait<'a>(
        &'a self,
        all: MutexGuard<'a, BTreeMap<u64, Served>>,
        is_so: impl Fn(&BTreeMap<u64, Served>) -> bool,
    ) -> MutexGuard<'a, BTreeMap<u64, Served>> {
        let waited = self.0.request_read.wait_timeout_while(all, PATIENCE, |all| !is_so(all)).unwrap();
        assert!(!waited.1.timed_out(), "the kernel does not ask");
        waited.0
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.0.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Served>> {
        self.served.lock().unwrap()
    }

    fn listen_unless_deaf(&self, key: u64, served: &Served) {
        // Either fails where it changes nothing.
        let _ = if served.is_deaf() {
            self.epoll.delete(&served.device)
        } else {
            self.epoll.add(&served.device, EpollEvent::new(EpollFlags::EPOLLIN, key))
        };
    }

    fn serve(&self) {
        let (mut events, mut buffer) = ([EpollEvent::empty(); 64], vec![0; wire::BUFFER_BYTES]);
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                count => count.unwrap(),
            };
            let mut all = self.lock();
            for key in events[..count].iter().map(EpollEvent::data) {
                // It may have died since the event.
                let Some(served) = all.get_mut(&key) else { continue };
                match served.read(&mut buffer) {
                    Ok(()) => self.listen_unless_deaf(key, served),
                    // Its last mount is gone.
                    Err(Errno::ENODEV) => drop(all.remove(&key)),
                    // The process that asked is gone.
                    Err(Errno::ENOENT | Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => panic!("/dev/fuse: {error}"),
                }
            }
            self.request_read.notify_all();
        }
    }
}

impl Served {
    /// The kernel has introduced itself.
    fn has_begun(&self) -> bool {
        self.asked.contains_key(&Opcode::INIT)
    }

    fn is_deaf(&self) -> bool {
        self.has_begun() && self.behaviour == Behaviour::Deaf
    }

    /// Reads one request, unless it has gone deaf since the event, and acts on it.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        if self.is_deaf() {
            return Ok(());
        }
        let request = wire::read(&self.device, buffer)?;
        *self.asked.entry(request.opcode).or_default() += 1;
        if request.opcode == Opcode::INIT {
            wire::begin(&self.device, &request);
        } else if request.opcode.wants_answer() {
            self.act(request);
        }
        Ok(())
    }

    fn act(&mut self, request: Request) {
        match self.behaviour {
            Behaviour::Answers(figures) => wire::answer(&self.device, &request, &figures),
            Behaviour::AnswersAfter(time) => {
                let device = Arc::downgrade(&self.device);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    device.upgrade().inspect(|device| wire::answer(device, &request, &Figures::HEALTHY))
                });
            }
            Behaviour::Fails(errno) => wire::fail(&self.device, &request, errno),
            Behaviour::Silent | Behaviour::Deaf => self.held.push(request),
        }
    }
}
