//! The functions of libpcap (1.0 and later) that compile an expression, loaded at run time.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::NonNull;

use libloading::{Library, Symbol};

use crate::filter::ClassicInstruction;

/// Names of the library: that of most distributions, and Debian's.
const NAMES: [&str; 2] = ["libpcap.so.1", "libpcap.so.0.8"];
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

/// The loaded library.
#[derive(Debug)]
pub(crate) struct LibPcap {
    library: Library,
}

/// A handle without a network interface.
struct DeadHandle<'a> {
    handle: NonNull<PcapHandle>,
    close: Symbol<'a, Close>,
}

impl Drop for DeadHandle<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used afterwards.
        unsafe { (self.close)(self.handle.as_ptr()) }
    }
}

impl LibPcap {
    /// Loads the library, or returns the loader's error.
    pub(crate) fn load() -> Result<Self, String> {
        if cfg!(target_feature = "crt-static") {
            return Err("this program is static and loads no library".to_owned());
        }
        let mut errors = Vec::new();
        for name in NAMES {
            // SAFETY: the constructors of libpcap have no requirements.
            match unsafe { Library::new(name) } {
                Ok(library) => return Ok(Self { library }),
                Err(error) => errors.push(error.to_string()),
            }
        }
        Err(errors.join("; "))
    }

    /// Compiles an expression for a link type, or returns libpcap's error.
    pub(crate) fn compile(&self, expression: &str, link: i32) -> Result<Vec<ClassicInstruction>, String> {
        let text = CString::new(expression).map_err(|_| "it contains a NUL character".to_owned())?;
        // SAFETY: the types are those of pcap.h.
        let (open_dead, compile, get_error, free_code) = unsafe {
            let open_dead: Symbol<'_, OpenDead> = self.function("pcap_open_dead")?;
            let compile: Symbol<'_, Compile> = self.function("pcap_compile")?;
            let get_error: Symbol<'_, GetError> = self.function("pcap_geterr")?;
            let free_code: Symbol<'_, FreeCode> = self.function("pcap_freecode")?;
            (open_dead, compile, get_error, free_code)
        };
        // SAFETY: as above.
        let close: Symbol<'_, Close> = unsafe { self.function("pcap_close")? };
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

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is its type.
    pub(crate) unsafe fn function<F>(&self, name: &str) -> Result<Symbol<'_, F>, String> {
        // SAFETY: guaranteed by the caller.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| error.to_string())
    }
}

/// libpcap's error without what netwatch's own message has already stated.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("can't parse filter expression: ").unwrap_or(message);
    let message = message.strip_suffix(" in filter expression").unwrap_or(message);
    message.to_owned()
}
