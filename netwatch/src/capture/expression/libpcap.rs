//! The functions of libpcap (1.0 and later) that compile an expression. They are loaded at run
//! time, or linked into a static program, which cannot load a library.

#[cfg(feature = "static-libpcap")]
mod linked;
#[cfg(not(feature = "static-libpcap"))]
mod loaded;

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::NonNull;

#[cfg(feature = "static-libpcap")]
use linked as provided;
#[cfg(not(feature = "static-libpcap"))]
use loaded as provided;

use crate::filter::ClassicInstruction;

/// A packet is accepted with this many bytes, as by tcpdump.
const SNAPLEN: c_int = 262_144;
const OPTIMIZE: c_int = 1;
/// The network mask of the link is not known (`PCAP_NETMASK_UNKNOWN`): `ip broadcast` is an error.
const UNKNOWN_MASK: c_uint = u32::MAX;

/// `struct bpf_program`.
#[repr(C)]
struct CompiledProgram {
    count: c_uint,
    instructions: *mut ClassicInstruction,
}

/// `pcap_t`, which only libpcap looks into.
#[repr(C)]
struct PcapHandle {
    _private: [u8; 0],
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut PcapHandle;
type Compile = unsafe extern "C" fn(*mut PcapHandle, *mut CompiledProgram, *const c_char, c_int, c_uint) -> c_int;
type GetError = unsafe extern "C" fn(*mut PcapHandle) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut CompiledProgram);
type Close = unsafe extern "C" fn(*mut PcapHandle);

/// `bpf_filter`.
#[cfg(test)]
pub(crate) type BpfFilter = unsafe extern "C" fn(*const ClassicInstruction, *const u8, c_uint, c_uint) -> c_uint;

/// The functions, with the types of pcap.h.
#[derive(Debug, Clone, Copy)]
struct PcapFunctions {
    open_dead: OpenDead,
    compile: Compile,
    get_error: GetError,
    free_code: FreeCode,
    close: Close,
    #[cfg(test)]
    bpf_filter: BpfFilter,
}

/// libpcap.
#[derive(Debug)]
pub(crate) struct LibPcap {
    functions: PcapFunctions,
}

/// A handle without a network interface.
struct DeadHandle {
    handle: NonNull<PcapHandle>,
    close: Close,
}

impl Drop for DeadHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used afterwards.
        unsafe { (self.close)(self.handle.as_ptr()) }
    }
}

impl LibPcap {
    /// Loads the library, unless it is a part of the program. The error is the loader's.
    pub(crate) fn load() -> Result<Self, String> {
        provided::functions().map(|functions| Self { functions })
    }

    /// Compiles an expression for a link type, or returns libpcap's error.
    pub(crate) fn compile(&self, expression: &str, link: i32) -> Result<Vec<ClassicInstruction>, String> {
        let text = CString::new(expression).map_err(|_| "it contains a NUL character".to_owned())?;
        let PcapFunctions { open_dead, compile, get_error, free_code, close, .. } = self.functions;
        // SAFETY: takes any numbers.
        let handle = NonNull::new(unsafe { open_dead(link, SNAPLEN) }).ok_or("out of memory")?;
        let handle = DeadHandle { handle, close };
        let mut program = CompiledProgram { count: 0, instructions: std::ptr::null_mut() };
        // SAFETY: the handle is open, and the text ends with NUL.
        let status =
            unsafe { compile(handle.handle.as_ptr(), &raw mut program, text.as_ptr(), OPTIMIZE, UNKNOWN_MASK) };
        if status != 0 {
            // SAFETY: libpcap returns a C string that lives as long as the handle.
            let message = unsafe { CStr::from_ptr(get_error(handle.handle.as_ptr())) };
            return Err(plain(&message.to_string_lossy()));
        }
        // SAFETY: after success there are so many instructions.
        let instructions = unsafe { std::slice::from_raw_parts(program.instructions, program.count as usize) };
        let instructions = instructions.to_vec();
        // SAFETY: the program is not used afterwards.
        unsafe { free_code(&raw mut program) };
        Ok(instructions)
    }

    /// libpcap's interpreter of filters.
    #[cfg(test)]
    pub(crate) fn bpf_filter(&self) -> BpfFilter {
        self.functions.bpf_filter
    }
}

/// libpcap's error without what netwatch's own message has already stated.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("can't parse filter expression: ").unwrap_or(message);
    let message = message.strip_suffix(" in filter expression").unwrap_or(message);
    message.to_owned()
}
