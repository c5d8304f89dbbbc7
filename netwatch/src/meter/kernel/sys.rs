//! The `bpf(2)` system call: operations that aya does not offer (batches, runs on a CPU, loading
//! without reading the kernel's BTF, which takes 18 ms). Independent of the purpose of maps and
//! programs. Public functions are used by the benchmarks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_type};

/// Calls `bpf(command, attr)`.
///
/// # Safety
/// `A` is the beginning of the kernel's `bpf_attr` for this command, and its pointers are valid for
/// the command's accesses.
unsafe fn bpf<A>(command: bpf_cmd, attr: &mut A) -> io::Result<i32> {
    // SAFETY: guaranteed by the caller; the kernel treats missing fields as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attr as *mut A, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// As [`bpf`], for commands that return a file descriptor.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_fd<A>(command: bpf_cmd, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: guaranteed by the caller; a new descriptor is owned by the caller.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(command, attr)?)) }
}

/// The kernel's `BPF_F_MMAPABLE`: user space may map the array.
pub(super) const MMAPABLE: u32 = 1 << 10;

/// The type and size of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapShape {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

/// Creates a map. `inner` has the shape of the maps that a map of maps will hold.
pub(super) fn map_create(name: &str, shape: MapShape, inner: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        shape: MapShapeAttr,
        inner_map_fd: u32,
        numa_node: u32,
        name: [u8; 16],
        ifindex: u32,
        types: u32,
        key_type: u32,
        value_type: u32,
    }
    #[repr(C)]
    struct MapShapeAttr(u32, u32, u32, u32, u32);
    let MapShape { map_type, key_size, value_size, max_entries, flags } = shape;
    let shape = MapShapeAttr(map_type, key_size, value_size, max_entries, flags);
    let inner_map_fd = inner.map_or(0, |inner| inner.as_raw_fd() as u32);
    // Of all maps here, the kernel requires the types of marks of sockets only.
    let types = (map_type == bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as u32).then(load_word_type).transpose()?;
    let (key_type, value_type) = if types.is_some() { (1, 1) } else { (0, 0) };
    let types = types.as_ref().map_or(0, |types| types.as_raw_fd() as u32);
    let name = object_name(name);
    let mut attr = Attr { shape, inner_map_fd, numa_node: 0, name, ifindex: 0, types, key_type, value_type };
    // SAFETY: the kernel's layout; no pointers.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr) }
}

/// Loads type information (BTF) with one type, number 1: an integer of 32 bits.
fn load_word_type() -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        types: u64,
        log: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
    }
    /// Magic number and version; lengths of the header, the types and the strings, with offsets;
    /// the type (name at 1, kind 1, 4 bytes) and its encoding.
    const WORDS: [u32; 10] = [0x0001_eb9f, 24, 0, 16, 16, 5, 1, 1 << 24, 4, 32];
    let mut bytes: Vec<u8> = WORDS.into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend(b"\0u32\0");
    let (size, log_size, log_level) = (bytes.len() as u32, 0, 0);
    let mut attr = Attr { types: bytes.as_ptr() as u64, log: 0, size, log_size, log_level };
    // SAFETY: the kernel's layout; the pointer is valid for the length given with it.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr) }
}

/// A name that the kernel accepts: at most 15 letters, digits, `_` and `.`.
fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes[..15].iter_mut().zip(name.bytes()) {
        *slot = if byte.is_ascii_alphanumeric() || byte == b'_' { byte } else { b'.' };
    }
    bytes
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets an element. `key` and `value` have the lengths of the map's shape.
pub fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    let mut attr = ElementAttr { map: map.as_raw_fd() as u32, key, value, flags: 0 };
    // SAFETY: the kernel's layout; both point to as many bytes as the map's shape defines.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop) }
}

/// Removes an element. `key` has the length of the map's shape.
pub(super) fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr { map: map.as_raw_fd() as u32, key: key.as_ptr() as u64, value: 0, flags: 0 };
    // SAFETY: as above.
    unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).map(drop) }
}

/// Reads an element. `value` has the length of the map's shape.
pub(super) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_mut_ptr() as u64);
    let mut attr = ElementAttr { map: map.as_raw_fd() as u32, key, value, flags: 0 };
    // SAFETY: as above.
    unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop) }
}

/// Makes a map read-only for user space, so that the verifier treats its contents as constants.
pub(super) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = map.as_raw_fd() as u32;
    // SAFETY: the kernel's layout; no pointers.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop) }
}

/// Sets elements of a map of maps in one call (Linux 5.14): the kernel waits for an RCU grace
/// period per call.
pub(super) fn map_update_batch(map: BorrowedFd<'_>, keys: &[u32], inner: &[OwnedFd]) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        input: u64,
        output: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let values: Vec<i32> = inner.iter().map(AsRawFd::as_raw_fd).collect();
    let (count, map) = (inner.len().min(keys.len()) as u32, map.as_raw_fd() as u32);
    let (keys_at, values_at) = (keys.as_ptr() as u64, values.as_ptr() as u64);
    let mut attr =
        Attr { input: 0, output: 0, keys: keys_at, values: values_at, count, map, element_flags: 0, flags: 0 };
    // SAFETY: the kernel's layout; `count` keys and values of four bytes each.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop) }
}

/// Maximum number of load attempts. A signal interrupts the verifier with EAGAIN; libbpf tries as
/// often.
const MAX_LOAD_TRIES: u32 = 5;

/// The type of a program, and where it will be attached: 0 for types that are loaded without this.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgramKind {
    pub program: bpf_prog_type,
    pub attach: u32,
}

/// Loads a program. The verifier writes its log into `log`, if given.
pub(super) fn program_load(
    name: &str,
    kind: ProgramKind,
    instructions: &[bpf_insn],
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        attach_type: u32,
    }
    const VERBOSE: u32 = 2;
    let (log_level, log_size, log) = log.map_or((0, 0, 0), |log| (VERBOSE, log.len() as u32, log.as_mut_ptr() as u64));
    let mut attr = Attr {
        program_type: kind.program as u32,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level,
        log_size,
        log,
        kernel_version: 0,
        flags: 0,
        name: object_name(name),
        ifindex: 0,
        attach_type: kind.attach,
    };
    for _ in 1..MAX_LOAD_TRIES {
        // SAFETY: the kernel's layout; every pointer is valid for the length given with it.
        match unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            loaded => return loaded,
        }
    }
    // SAFETY: as above.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

/// Attaches a program to a tcx hook of an interface (Linux 6.6), before the programs that are
/// already attached: a verdict of theirs ends the chain.
pub(super) fn tcx_attach(program: BorrowedFd<'_>, ifindex: u32, hook: bpf_attach_type) -> io::Result<OwnedFd> {
    /// `BPF_F_BEFORE` (include/uapi/linux/bpf.h): without another program, before all.
    const BEFORE: u32 = 1 << 3;
    link_create(program, ifindex, hook as u32, BEFORE)
}

/// Detaches the program of a link at once, although another process may hold a duplicate of the
/// descriptor: a child has one from its fork to its execve.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = link.as_raw_fd();
    // SAFETY: the attribute of this command begins with the descriptor, and no other field is used.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop) }
}

/// Attaches a program to a cgroup, in addition to others. It runs for the cgroup and its
/// descendants.
pub(super) fn cgroup_attach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: u32) -> io::Result<OwnedFd> {
    link_create(program, cgroup.as_raw_fd() as u32, hook, 0)
}

fn link_create(program: BorrowedFd<'_>, target: u32, hook: u32, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: u32,
        target: u32,
        hook: u32,
        flags: u32,
        relative: u32,
        zero: u32,
        expected_revision: u64,
    }
    let program = program.as_raw_fd() as u32;
    let mut attr = Attr { program, target, hook, flags, relative: 0, zero: 0, expected_revision: 0 };
    // SAFETY: the kernel's layout; no pointers.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Attaches a program to the raw tracepoint of that name, until the descriptor is closed.
pub(super) fn tracepoint_attach(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        name: u64,
        program: u32,
        zero: u32,
    }
    let mut attr = Attr { name: name.as_ptr() as u64, program: program.as_raw_fd() as u32, zero: 0 };
    // SAFETY: the kernel's layout; the name lives as long as the call.
    unsafe { bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// Information about a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<aya_obj::generated::bpf_prog_info> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        len: u32,
        info: u64,
    }
    // SAFETY: plain data.
    let mut info: aya_obj::generated::bpf_prog_info = unsafe { std::mem::zeroed() };
    let info_at = &raw mut info as u64;
    let mut attr = Attr { fd: program.as_raw_fd() as u32, len: size_of_val(&info) as u32, info: info_at };
    // SAFETY: the kernel's layout; the pointer is valid for the length given with it.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
    Ok(info)
}

/// Runs a raw tracepoint program on one CPU (Linux 5.10), in an interrupt unless it is the caller's
/// CPU. Returns the program's result.
pub(super) fn run_on_cpu(program: BorrowedFd<'_>, arguments: &[u64], cpu: Option<u32>) -> io::Result<u32> {
    const ON_CPU: u32 = 1;
    #[repr(C)]
    struct Attr {
        run: TestRunAttr,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        /// Padding; must be zero.
        zero: u32,
    }
    let run = TestRunAttr {
        program: program.as_raw_fd() as u32,
        context_size_in: size_of_val(arguments) as u32,
        context_in: if arguments.is_empty() { 0 } else { arguments.as_ptr() as u64 },
        ..TestRunAttr::default()
    };
    let flags = if cpu.is_some() { ON_CPU } else { 0 };
    let mut attr = Attr { run, flags, cpu: cpu.unwrap_or(0), batch_size: 0, zero: 0 };
    // SAFETY: the kernel's layout; the pointer is valid for the length given with it.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)? };
    Ok(attr.run.result)
}

/// The beginning of the arguments of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    result: u32,
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

/// Runs a classifier on one frame. `context` is a `__sk_buff` or empty. Returns the verdict and the
/// mean run time in ns.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], context: &[u8], repeat: u32) -> io::Result<(i32, u32)> {
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        context_size_in: context.len() as u32,
        context_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        ..TestRunAttr::default()
    };
    // SAFETY: the kernel's layout; every pointer is valid for the length given with it.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)? };
    Ok((attr.result as i32, attr.duration))
}
