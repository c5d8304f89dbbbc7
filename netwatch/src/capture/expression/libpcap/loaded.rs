//! The functions of the machine's libpcap.

use libloading::{Library, Symbol};

use super::PcapFunctions;

/// Names of the library: that of most distributions, and Debian's.
const NAMES: [&str; 2] = ["libpcap.so.1", "libpcap.so.0.8"];

/// Loads the library, or returns the loader's error.
pub(super) fn functions() -> Result<PcapFunctions, String> {
    if cfg!(target_feature = "crt-static") {
        return Err("this program is static and loads no library".to_owned());
    }
    let library = library()?;
    // SAFETY: the types are those of pcap.h.
    let functions = unsafe {
        PcapFunctions {
            open_dead: function(&library, "pcap_open_dead")?,
            compile: function(&library, "pcap_compile")?,
            get_error: function(&library, "pcap_geterr")?,
            free_code: function(&library, "pcap_freecode")?,
            close: function(&library, "pcap_close")?,
            #[cfg(test)]
            bpf_filter: function(&library, "bpf_filter")?,
        }
    };
    // The functions are valid as long as the library is loaded: until the process ends.
    std::mem::forget(library);
    Ok(functions)
}

fn library() -> Result<Library, String> {
    let mut errors = Vec::new();
    for name in NAMES {
        // SAFETY: the constructors of libpcap have no requirements.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => errors.push(error.to_string()),
        }
    }
    Err(errors.join("; "))
}

/// A function, which is valid as long as the library is loaded.
///
/// # Safety
/// `F` is its type.
unsafe fn function<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
    // SAFETY: guaranteed by the caller.
    let found: Result<Symbol<'_, F>, _> = unsafe { library.get(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|error| error.to_string())
}
