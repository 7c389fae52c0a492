//! FUSE file systems that behave as a test says, now and whenever it says otherwise. One thread serves all of them,
//! each on a descriptor of its own, so that none waits for another.

mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::PATIENCE;
use wire::Request;
pub(crate) use wire::{Figures, Opcode};

/// Why no FUSE file system can be mounted here, if so.
pub(crate) fn missing() -> Option<String> {
    wire::open().err().map(|error| format!("/dev/fuse cannot be opened: {error}"))
}

/// What a file system does when it is asked.
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

/// The file systems, by a name that the test gives; gone when dropped, and whoever hangs in one is freed.
pub(crate) struct Fuse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: Epoll,
    /// The thread has new work: an earlier answer, or its end.
    wake: EventFd,
    served: Mutex<State>,
    /// A request came.
    asked: Condvar,
}

#[derive(Default)]
struct State {
    served: BTreeMap<u64, Served>,
    names: BTreeMap<String, u64>,
    /// Answers that wait for their time: file system and request.
    due: BinaryHeap<Reverse<(Instant, u64, Request)>>,
    last: u64,
    closed: bool,
}

/// One of them.
struct Served {
    device: File,
    behaviour: Behaviour,
    /// Requests that were read and not answered.
    held: Vec<Request>,
    /// What was asked, as far as it has read, and how often.
    asked: BTreeMap<Opcode, usize>,
    /// The kernel has introduced itself.
    begun: bool,
    listened_to: bool,
}

/// The key of the thread's own wake-up.
const WAKE: u64 = 0;

impl Fuse {
    pub(crate) fn start() -> Self {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let wake = EventFd::new().unwrap();
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).unwrap();
        let shared = Arc::new(Shared { epoll, wake, served: Mutex::default(), asked: Condvar::new() });
        let thread = Arc::clone(&shared);
        Self { shared, thread: Some(std::thread::spawn(move || thread.serve())) }
    }

    /// Mounts one that everybody may use.
    pub(crate) fn mount(&self, name: &str, path: &Path, behaviour: Behaviour) {
        self.mount_for("user_id=0,group_id=0,allow_other", name, path, behaviour);
    }

    /// Mounts one that only the user `nobody` may use.
    pub(crate) fn mount_for_nobody(&self, name: &str, path: &Path, behaviour: Behaviour) {
        self.mount_for("user_id=65534,group_id=65534", name, path, behaviour);
    }

    fn mount_for(&self, users: &str, name: &str, path: &Path, behaviour: Behaviour) {
        let device = wire::open().unwrap();
        let options = format!("fd={},rootmode=40000,{users}", device.as_raw_fd());
        mount(Some(name), path, Some("fuse"), MsFlags::empty(), Some(&options[..])).unwrap();
        let mut state = self.shared.lock();
        state.last += 1;
        let key = state.last;
        let served = Served {
            device,
            behaviour,
            held: vec![],
            asked: BTreeMap::new(),
            begun: false,
            listened_to: false,
        };
        state.served.insert(key, served);
        self.shared.listen_or_not(&mut state, key);
        assert_eq!(state.names.insert(name.to_owned(), key), None, "{name} is there already");
        drop(self.wait(state, |state| state.served[&key].begun));
    }

    /// From now on it does this; requests that it kept are answered so too.
    pub(crate) fn set(&self, name: &str, behaviour: Behaviour) {
        let mut state = self.shared.lock();
        let key = state.names[name];
        let served = state.served.get_mut(&key).unwrap();
        served.behaviour = behaviour;
        for request in std::mem::take(&mut served.held) {
            state.act(key, request);
        }
        self.shared.listen_or_not(&mut state, key);
        self.shared.wake.write(1).unwrap();
    }

    /// Its server dies, if it has not ended with its last mount: the mount stays, without anybody behind it.
    pub(crate) fn die(&self, name: &str) {
        let mut state = self.shared.lock();
        if let Some(key) = state.names.remove(name) {
            state.served.remove(&key);
        }
    }

    /// Gives those whose names begin with `from` names that begin with `to`; these.
    pub(crate) fn rename_all(&self, from: &str, to: &str) -> Vec<String> {
        let mut state = self.shared.lock();
        let (moved, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut state.names).into_iter().partition(|(name, _)| name.starts_with(from));
        state.names = kept;
        let moved = moved.into_iter().map(|(name, key)| (name.replacen(from, to, 1), key));
        let moved: Vec<(String, u64)> = moved.collect();
        state.names.extend(moved.iter().cloned());
        moved.into_iter().map(|(name, _)| name).collect()
    }

    /// What each was asked, as far as it has read, and how often.
    pub(crate) fn asked(&self) -> BTreeMap<String, BTreeMap<Opcode, usize>> {
        let state = self.shared.lock();
        state.names.iter().map(|(name, key)| (name.clone(), state.served[key].asked.clone())).collect()
    }

    /// Waits until that many of them keep requests; their names.
    pub(crate) fn wait_until_held(&self, count: usize) -> BTreeSet<String> {
        let held = |state: &State| -> BTreeSet<String> {
            let names = state.names.iter().filter(|(_, key)| !state.served[key].held.is_empty());
            names.map(|(name, _)| name.clone()).collect()
        };
        held(&self.wait(self.shared.lock(), |state| held(state).len() >= count))
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.shared.asked.wait_timeout_while(state, PATIENCE, |state| !until(state)).unwrap();
        assert!(!waited.1.timed_out(), "the kernel does not ask");
        waited.0
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.shared.served.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        let _ = self.shared.wake.write(1);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.served.lock().unwrap()
    }

    /// Listens to a file system, unless it has begun and is deaf.
    fn listen_or_not(&self, state: &mut State, key: u64) {
        let Some(served) = state.served.get_mut(&key) else { return };
        let wanted = !(served.begun && served.behaviour == Behaviour::Deaf);
        match (std::mem::replace(&mut served.listened_to, wanted), wanted) {
            (true, false) => self.epoll.delete(&served.device).unwrap(),
            (false, true) => {
                self.epoll.add(&served.device, EpollEvent::new(EpollFlags::EPOLLIN, key)).unwrap();
            }
            _ => {}
        }
    }

    fn serve(&self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0; wire::BUFFER_BYTES];
        loop {
            let timeout = {
                let mut state = self.lock();
                if state.closed {
                    return;
                }
                state.answer_due()
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                count => count.unwrap(),
            };
            let mut state = self.lock();
            for event in &events[..count] {
                match event.data() {
                    WAKE => drop(self.wake.read().unwrap()),
                    key => {
                        state.read(key, &mut buffer);
                        self.listen_or_not(&mut state, key);
                    }
                }
            }
            self.asked.notify_all();
        }
    }
}

impl State {
    /// Reads one request, and does with it as the file system does.
    fn read(&mut self, key: u64, buffer: &mut [u8]) {
        // It may have died, or gone deaf, since the event.
        let Some(served) = self.served.get_mut(&key) else { return };
        if served.begun && served.behaviour == Behaviour::Deaf {
            return;
        }
        let request = match wire::read(&served.device, buffer) {
            Ok(request) => request,
            Err(Errno::ENODEV) => return self.forget(key),
            // Who asked has gone, or somebody else has read it.
            Err(Errno::ENOENT | Errno::EAGAIN | Errno::EINTR) => return,
            Err(error) => panic!("/dev/fuse: {error}"),
        };
        *served.asked.entry(request.opcode).or_default() += 1;
        if request.opcode == Opcode::INIT {
            wire::begin(&served.device, &request);
            served.begun = true;
        } else if request.opcode.wants_answer() {
            self.act(key, request);
        }
    }

    /// Its last mount is gone.
    fn forget(&mut self, key: u64) {
        self.served.remove(&key);
        self.names.retain(|_, other| *other != key);
    }

    fn act(&mut self, key: u64, request: Request) {
        let Some(served) = self.served.get_mut(&key) else { return };
        match served.behaviour {
            Behaviour::Answers(figures) => wire::answer(&served.device, &request, &figures),
            Behaviour::AnswersAfter(time) => self.due.push(Reverse((Instant::now() + time, key, request))),
            Behaviour::Fails(errno) => wire::fail(&served.device, &request, errno),
            Behaviour::Silent | Behaviour::Deaf => served.held.push(request),
        }
    }

    /// Gives the answers whose time has come; how long the next one may wait.
    fn answer_due(&mut self) -> EpollTimeout {
        while let Some(Reverse((at, ..))) = self.due.peek() {
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let millis = left.as_millis().saturating_add(1);
                return EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX);
            }
            let Reverse((_, key, request)) = self.due.pop().unwrap();
            if let Some(served) = self.served.get(&key) {
                wire::answer(&served.device, &request, &Figures::default());
            }
        }
        EpollTimeout::NONE
    }
}
