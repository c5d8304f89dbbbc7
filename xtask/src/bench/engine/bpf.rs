//! The `bpf(2)` calls that neither aya nor netwatch offers for a program of somebody else: test run, info by descriptor, an
//! element of a map of programs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::{bpf_cmd, bpf_prog_info};

/// Bytes of a `struct __sk_buff`.
pub const CONTEXT: usize = 192;

/// Calls `bpf(command, attr)`.
///
/// # Safety
/// `A` is the beginning of the kernel's `bpf_attr` for this command, and its pointers are valid for what the command
/// does with them.
unsafe fn bpf<A>(command: bpf_cmd, attr: &mut A) -> io::Result<()> {
    // SAFETY: the caller's promise; the kernel takes missing fields for zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attr as *mut A, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs a classifier `repeat` times on one buffer that holds `frame` at first.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], context: &[u8; CONTEXT], repeat: u32) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        program: u32,
        verdict: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
    }
    let mut attr = Attr {
        program: program.as_raw_fd() as u32,
        verdict: 0,
        size_in: frame.len() as u32,
        size_out: 0,
        data_in: frame.as_ptr() as u64,
        data_out: 0,
        repeat,
        duration: 0,
        context_size_in: context.len() as u32,
        context_size_out: 0,
        context_in: context.as_ptr() as u64,
        context_out: 0,
    };
    // SAFETY: the kernel's layout; every pointer is valid for the length beside it.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }
}

/// Sets an element. `value` is as long as the map was made for.
pub fn map_update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let (key, value) = (&raw const key as u64, value.as_ptr() as u64);
    let mut attr = Attr { map: map.as_raw_fd() as u32, key, value, flags: 0 };
    // SAFETY: the kernel's layout; both point to as many bytes as the map's shape says.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }
}

/// What the kernel says about a program.
pub fn info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        len: u32,
        info: u64,
    }
    // SAFETY: plain data.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let place = &raw mut info as u64;
    let mut attr = Attr { fd: program.as_raw_fd() as u32, len: size_of_val(&info) as u32, info: place };
    // SAFETY: the kernel's layout; the pointer is valid for the length beside it.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
    Ok(info)
}
