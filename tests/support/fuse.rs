//! FUSE file systems that behave as a test says, now and whenever it says otherwise. One thread serves all of them,
//! each on a descriptor of its own, so that none waits for another. The requests and answers are those of
//! <https://docs.kernel.org/filesystems/fuse> and `linux/fuse.h`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::PATIENCE;

/// Why no FUSE file system can be mounted here, if so.
pub(crate) fn missing() -> Option<String> {
    open_device().err().map(|error| format!("/dev/fuse cannot be opened: {error}"))
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

    /// Mounts one that everybody may use.
    pub(crate) fn mount(&self, name: &str, path: &Path, behaviour: Behaviour) {
        self.mount_for("user_id=0,group_id=0,allow_other", ("fuse", name), name, path, behaviour);
    }

    /// The same of a server, as the mount table shows it.
    pub(crate) fn mount_of(&self, server: &str, name: &str, path: &Path, behaviour: Behaviour) {
        let source = format!("{server}:/{name}");
        let users = "user_id=0,group_id=0,allow_other";
        self.mount_for(users, ("fuse.glusterfs", &source), name, path, behaviour);
    }

    /// Mounts one that only the user `nobody` may use.
    pub(crate) fn mount_for_nobody(&self, name: &str, path: &Path, behaviour: Behaviour) {
        self.mount_for("user_id=65534,group_id=65534", ("fuse", name), name, path, behaviour);
    }

    fn mount_for(
        &self,
        users: &str,
        (fstype, source): (&str, &str),
        name: &str,
        path: &Path,
        behaviour: Behaviour,
    ) {
        let device = Arc::new(open_device().unwrap());
        let options = format!("fd={},rootmode=40000,{users}", device.as_raw_fd());
        mount(Some(source), path, Some(fstype), MsFlags::empty(), Some(&options[..])).unwrap();
        let mut all = self.0.lock();
        let key = all.last_key_value().map_or(0, |(last, _)| last + 1);
        let served =
            Served { name: name.to_owned(), device, behaviour, held: vec![], asked: BTreeMap::new() };
        self.0.listen_unless_deaf(key, &served);
        all.insert(key, served);
        let is_new = |all: &mut BTreeMap<u64, Served>| !all[&key].has_begun();
        let waited = self.0.request_read.wait_timeout_while(all, PATIENCE, is_new).unwrap();
        assert!(!waited.1.timed_out(), "the kernel does not ask");
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
        let (mut events, mut buffer) = ([EpollEvent::empty(); 64], vec![0; BUFFER_BYTES]);
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
        let request = read_request(&self.device, buffer)?;
        *self.asked.entry(request.opcode).or_default() += 1;
        if request.opcode == Opcode::INIT {
            write_answer(&self.device, &request, 0, &u32s(&INIT_OUT));
        } else if request.opcode.wants_answer() {
            self.act(request);
        }
        Ok(())
    }

    fn act(&mut self, request: Request) {
        match self.behaviour {
            Behaviour::Answers(figures) => answer(&self.device, &request, &figures),
            Behaviour::AnswersAfter(time) => {
                let device = Arc::downgrade(&self.device);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    device.upgrade().inspect(|device| answer(device, &request, &Figures::HEALTHY))
                });
            }
            Behaviour::Fails(errno) => fail(&self.device, &request, errno),
            Behaviour::Silent | Behaviour::Deaf => self.held.push(request),
        }
    }
}

/// Room for every request that the kernel may send, as `INIT_OUT` says.
const BUFFER_BYTES: usize = 1 << 16;

/// Version 7.31, flags that are all off, and writes of 4 KiB at most: `struct fuse_init_out`.
const INIT_OUT: [u32; 16] = [7, 31, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADER_BYTES: usize = 40;
const MAX_NAME_BYTES: u32 = 255;

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/fuse")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opcode(u32);

impl Opcode {
    const FORGET: Self = Self(2);
    pub(crate) const STATFS: Self = Self(17);
    pub(crate) const GETXATTR: Self = Self(22);
    pub(crate) const INIT: Self = Self(26);
    const INTERRUPT: Self = Self(36);
    const BATCH_FORGET: Self = Self(42);

    fn wants_answer(self) -> bool {
        ![Self::FORGET, Self::INTERRUPT, Self::BATCH_FORGET].contains(&self)
    }
}

/// A request, without its node: there is nothing but a root directory.
#[derive(Debug)]
struct Request {
    opcode: Opcode,
    unique: u64,
}

/// What `statvfs` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// All, free and available ones.
    pub(crate) blocks: [u64; 3],
    /// All and free ones.
    pub(crate) inodes: [u64; 2],
    /// Of a block, and of a fragment.
    pub(crate) bytes: [u32; 2],
}

impl Figures {
    pub(crate) const HEALTHY: Self =
        Self { blocks: [1000, 400, 300], inodes: [50, 20], bytes: [1 << 20, 4096] };
}

fn read_request(device: &File, buffer: &mut [u8]) -> Result<Request, Errno> {
    let length = nix::unistd::read(device, buffer)?;
    assert!(length >= HEADER_BYTES, "half a request");
    let opcode = Opcode(u32::from_ne_bytes(buffer[4..8].try_into().unwrap()));
    Ok(Request { opcode, unique: u64::from_ne_bytes(buffer[8..16].try_into().unwrap()) })
}

fn answer(device: &File, request: &Request, figures: &Figures) {
    if request.opcode != Opcode::STATFS {
        return fail(device, request, Errno::ENOSYS);
    }
    let Figures { blocks, inodes, bytes: [block_bytes, fragment_bytes] } = figures;
    let counts = [&blocks[..], inodes].concat().into_iter().flat_map(u64::to_ne_bytes).collect();
    let sizes = u32s(&[*block_bytes, MAX_NAME_BYTES, *fragment_bytes, 0, 0, 0, 0, 0, 0, 0]);
    write_answer(device, request, 0, &[counts, sizes].concat());
}

fn fail(device: &File, request: &Request, errno: Errno) {
    write_answer(device, request, -(errno as i32), &[]);
}

fn write_answer(device: &File, request: &Request, error: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).unwrap().to_ne_bytes();
    let message = [&length[..], &error.to_ne_bytes(), &request.unique.to_ne_bytes(), body].concat();
    match nix::unistd::write(device, &message) {
        // The process that asked, or the mount itself, is gone.
        Ok(_) | Err(Errno::ENOENT | Errno::ENODEV) => {}
        Err(error) => panic!("/dev/fuse does not take the answer to {request:?}: {error}"),
    }
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
