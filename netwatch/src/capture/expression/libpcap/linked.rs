//! The functions of a libpcap that is a part of the program. The linker needs the folder of
//! libpcap.a (`-L native=FOLDER` in RUSTFLAGS); `cargo xtask dist` builds it from source.

use std::ffi::{c_char, c_int, c_uint};

use super::{CompiledProgram, PcapFunctions, PcapHandle};

// Not bundled: only the final program needs the file.
#[link(name = "pcap", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {
    fn pcap_open_dead(link: c_int, snaplen: c_int) -> *mut PcapHandle;
    fn pcap_compile(
        handle: *mut PcapHandle,
        program: *mut CompiledProgram,
        expression: *const c_char,
        optimize: c_int,
        mask: c_uint,
    ) -> c_int;
    fn pcap_geterr(handle: *mut PcapHandle) -> *const c_char;
    fn pcap_freecode(program: *mut CompiledProgram);
    fn pcap_close(handle: *mut PcapHandle);
    #[cfg(test)]
    fn bpf_filter(
        program: *const crate::filter::ClassicInstruction,
        packet: *const u8,
        length: c_uint,
        captured: c_uint,
    ) -> c_uint;
}

/// Nothing has to be loaded.
#[expect(clippy::unnecessary_wraps, reason = "a library that is loaded may be missing")]
pub(super) fn functions() -> Result<PcapFunctions, String> {
    Ok(PcapFunctions {
        open_dead: pcap_open_dead,
        compile: pcap_compile,
        get_error: pcap_geterr,
        free_code: pcap_freecode,
        close: pcap_close,
        #[cfg(test)]
        bpf_filter,
    })
}
