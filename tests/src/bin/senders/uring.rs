//! A minimal client of io_uring(7): one operation after the other, by its system calls.

use std::ffi::c_void;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Where the kernel executes operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// In the thread that submits them.
    Inline,
    /// In worker threads of the ring.
    Workers,
    /// In a thread of the kernel that polls for submissions.
    Polled,
}

const ENTRIES: u32 = 4;
const SETUP_SQPOLL: u32 = 1 << 1;
const SQE_ASYNC: u8 = 1 << 4;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const SQ_NEED_WAKEUP: u32 = 1;
const OFFSET_CQ_RING: i64 = 0x800_0000;
const OFFSET_SQES: i64 = 0x1000_0000;
const OP_CONNECT: u8 = 16;
const OP_SEND: u8 = 26;
const OP_RECV: u8 = 27;
const OP_SHUTDOWN: u8 = 34;
const OP_SOCKET: u8 = 45;

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, which differ in the names of the last
/// fields.
#[repr(C)]
#[derive(Default)]
struct RingOffsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Submissions: flags; completions: overflow.
    fifth: u32,
    /// Submissions: dropped; completions: entries.
    sixth: u32,
    /// Submissions: array; completions: flags.
    seventh: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Default)]
struct RingParams {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread: [u32; 2],
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: RingOffsets,
    cq: RingOffsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    of_operation: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

struct IoUring {
    mode: ExecutionMode,
    fd: OwnedFd,
    params: RingParams,
    sq: *mut u8,
    cq: *mut u8,
    submissions: *mut Submission,
}

/// Connects, sends, and waits for the other end to close.
pub fn send(mode: ExecutionMode, to: SocketAddr, bytes: usize) -> io::Result<()> {
    let mut ring = IoUring::new(mode)?;
    let address = SockaddrStorage::from(to);
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = ring.run(Submission {
        opcode: OP_SOCKET,
        fd: family,
        offset: libc::SOCK_STREAM as u64,
        ..Submission::default()
    })?;
    // SAFETY: the kernel has just returned this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let of_socket = |opcode| Submission { opcode, fd: socket.as_raw_fd(), ..Submission::default() };
    let (place, length) = (address.as_ptr() as u64, u64::from(address.len()));
    ring.run(Submission { offset: length, address: place, ..of_socket(OP_CONNECT) })?;
    let mut data = vec![b'r'; bytes];
    let mut sent = 0;
    while sent < bytes {
        let rest = &data[sent..];
        let (address, length) = (rest.as_ptr() as u64, rest.len() as u32);
        sent += ring.run(Submission { address, length, ..of_socket(OP_SEND) })? as usize;
    }
    ring.run(Submission { length: libc::SHUT_WR as u32, ..of_socket(OP_SHUTDOWN) })?;
    let address = data.as_mut_ptr() as u64;
    let end = ring.run(Submission { address, length: bytes as u32, ..of_socket(OP_RECV) })?;
    assert_eq!(end, 0, "the other end closes without data");
    Ok(())
}

impl IoUring {
    fn new(mode: ExecutionMode) -> io::Result<Self> {
        let flags = if mode == ExecutionMode::Polled { SETUP_SQPOLL } else { 0 };
        let mut params = RingParams { flags, ..RingParams::default() };
        // SAFETY: the structure is the kernel's `io_uring_params`, 120 bytes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut params) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let sq_bytes = params.sq.seventh as usize + params.sq_entries as usize * size_of::<u32>();
        let cq_bytes = params.cq.sixth as usize + params.cq_entries as usize * size_of::<Completion>();
        let sqe_bytes = params.sq_entries as usize * size_of::<Submission>();
        let (sq, cq) = (map(&fd, sq_bytes, 0)?, map(&fd, cq_bytes, OFFSET_CQ_RING)?);
        let submissions = map(&fd, sqe_bytes, OFFSET_SQES)?.cast();
        Ok(Self { mode, fd, params, sq, cq, submissions })
    }

    /// Executes one operation and returns its result.
    fn run(&mut self, mut submission: Submission) -> io::Result<i32> {
        submission.flags = if self.mode == ExecutionMode::Workers { SQE_ASYNC } else { 0 };
        let RingParams { sq, cq, .. } = &self.params;
        let (tail, head) = (word(self.sq, sq.tail), word(self.cq, cq.head));
        let place = tail.load(Ordering::Relaxed) & word(self.sq, sq.mask).load(Ordering::Relaxed);
        // SAFETY: the mask limits the index to the entries. The kernel reads an entry only after
        // the tail has passed it.
        unsafe { self.submissions.add(place as usize).write(submission) };
        word(self.sq, sq.seventh + place * 4).store(place, Ordering::Relaxed);
        tail.fetch_add(1, Ordering::SeqCst);
        while word(self.cq, cq.tail).load(Ordering::Acquire) == head.load(Ordering::Relaxed) {
            self.enter()?;
        }
        let at = head.load(Ordering::Relaxed) & word(self.cq, cq.mask).load(Ordering::Relaxed);
        // SAFETY: the mask limits the index to the entries, and the kernel has written this one.
        let result = unsafe { (*self.cq.add(cq.sixth as usize).cast::<Completion>().add(at as usize)).result };
        head.fetch_add(1, Ordering::Release);
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }

    /// Submits what the kernel does not read by itself, and waits for a completion.
    fn enter(&self) -> io::Result<()> {
        let sq = &self.params.sq;
        let waiting = word(self.sq, sq.tail).load(Ordering::Relaxed) - word(self.sq, sq.head).load(Ordering::Acquire);
        let asleep = word(self.sq, sq.fifth).load(Ordering::SeqCst) & SQ_NEED_WAKEUP != 0;
        let flags = ENTER_GETEVENTS | if asleep { ENTER_SQ_WAKEUP } else { 0 };
        let nothing = std::ptr::null::<c_void>();
        // SAFETY: the only pointers are those in the submission, and their owner waits here.
        let entered =
            unsafe { libc::syscall(libc::SYS_io_uring_enter, self.fd.as_raw_fd(), waiting, 1, flags, nothing, 0) };
        if entered < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn map(fd: &OwnedFd, bytes: usize, offset: i64) -> io::Result<*mut u8> {
    let bytes = NonZeroUsize::new(bytes).expect("a ring has entries");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses. It exists until the process
    // ends.
    let memory = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, offset)? };
    Ok(memory.as_ptr().cast())
}

/// A word that the kernel also writes.
fn word<'a>(ring: *mut u8, offset: u32) -> &'a AtomicU32 {
    // SAFETY: the kernel returned the offset, which is aligned and within the mapping; that is
    // never removed.
    unsafe { AtomicU32::from_ptr(ring.add(offset as usize).cast()) }
}
