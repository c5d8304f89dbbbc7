//! Filter expressions (pcap-filter(7)), compiled by libpcap. The library is loaded only for this,
//! so that netwatch runs and is built without it; a feature links it into a static program.

mod column;
#[cfg(test)]
mod fuzz;
mod libpcap;

use crate::error::{Error, Result};
use crate::filter::FilterProgram;
use libpcap::LibPcap;

/// libpcap has numbers of its own for some link types that have another one in files.
const FILE_LINK_TYPES: [(u16, i32); 1] = [(101, 12)];

/// What to do without the library. A static program can load none.
const WITHOUT_LIBPCAP: &str = if cfg!(target_feature = "crt-static") {
    "use --filter-code with what `tcpdump -y EN10MB -ddd FILTER` prints"
} else {
    "install it (libpcap0.8, libpcap), or use --filter-code with what `tcpdump -y EN10MB -ddd FILTER` prints"
};

/// Compiles an expression for packets of a link type, by its number in capture files. Names of
/// hosts, ports and protocols are looked up as by every program.
pub fn compile(expression: &str, link: u16) -> Result<FilterProgram> {
    let library = LibPcap::load()
        .map_err(|cause| Error::other("load", "libpcap, which compiles filters", cause).hint(WITHOUT_LIBPCAP))?;
    let known = FILE_LINK_TYPES.iter().find(|(file, _)| *file == link);
    let link = known.map_or(i32::from(link), |(_, own)| *own);
    let compile = |text: &str| library.compile(text, link);
    let failed = |cause: String| Error::other("compile filter", expression, cause);
    let instructions = compile(expression).map_err(|cause| {
        let place = column::of_error(expression, &cause, |text| compile(text).err());
        match place {
            Some(column) => failed(format!("{cause} at column {column}")),
            None => failed(cause),
        }
        .hint("pcap-filter(7) describes the syntax")
    })?;
    FilterProgram::new(instructions).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHERNET: u16 = 1;

    fn error(expression: &str) -> String {
        compile(expression, ETHERNET).expect_err(expression).to_string()
    }

    #[test]
    fn an_expression_becomes_a_filter_of_its_link_type() {
        let ethernet = compile("tcp port 80", ETHERNET).expect("valid");
        let raw = compile("tcp port 80", 101).expect("valid");
        assert_ne!(ethernet, raw, "raw IP has no EtherType");
        assert!(compile("", ETHERNET).expect("valid").instructions().len() == 1, "everything matches");
    }

    #[test]
    fn an_error_states_the_column() {
        for (expression, expected) in [
            ("tcp prt 80", "syntax error at column 5"),
            ("tcp port", "syntax error at column 9"),
            ("tcp and (udp or", "syntax error at column 16"),
            ("ip[2:2] >> > 5", "syntax error at column 12"),
            ("udp and port foo", "unknown port 'foo' at column 14"),
            ("host 300.1.1.1", "at column 6"),
            ("port 99999999999", "at column 6"),
        ] {
            let text = error(expression);
            assert!(text.contains(expected), "{expression}: {text}");
            assert!(text.contains(&format!("cannot compile filter {expression}: ")), "{text}");
        }
    }

    #[test]
    fn an_error_without_a_place_states_none() {
        let text = error("ip[0] << 33 = 1");
        assert!(text.contains("shift") && !text.contains("column"), "{text}");
        assert!(error("tcp\0udp").contains("NUL"), "a C string has no such byte");
    }
}
