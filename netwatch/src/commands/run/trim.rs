//! Code and constants that only the set-up needed are given back. They stay in the page cache, and
//! come back by a fault should they be needed again.

use std::fs;

/// Lets go of the pages of the program's own code and constants. Which of them are resident is a
/// matter of where the linker put what: the kernel maps sixteen around each that is touched. Of
/// read-only data only the file's beginning: where addresses were filled in when the program was
/// loaded is a segment of its own.
pub(super) fn code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let Some(program) = program.to_str() else { return };
    for (start, end) in maps.lines().filter_map(|line| code_of(line, program)) {
        // SAFETY: pages of a file that nobody writes to: what is there stays readable, as it was.
        // Failing changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// A line of proc_pid_maps(5): `55d0-55e0 r-xp 00001000 fe:00 1234   /usr/bin/netwatch`.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let is_untouched = rest.starts_with("r-xp ") || rest.starts_with("r--p 00000000 ");
    let is_code = is_untouched && rest.ends_with(program);
    let (start, end) = range.split_once('-').filter(|_| is_code)?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself() {
        let line = "55d0-55e0 r-xp 00001000 fe:00 1234   /usr/bin/netwatch";
        assert_eq!(code_of(line, "/usr/bin/netwatch"), Some((0x55d0, 0x55e0)));
        let constants = line.replace("r-xp 00001000", "r--p 00000000");
        assert_eq!(code_of(&constants, "/usr/bin/netwatch"), Some((0x55d0, 0x55e0)));
        for other in [line.replace("r-xp", "r--p"), line.replace("r-xp", "rw-p"), line.replace("netwatch", "other")] {
            assert_eq!(code_of(&other, "/usr/bin/netwatch"), None);
        }
    }

    #[test]
    fn the_program_goes_on() {
        code();
        code();
        assert_eq!(code_of("nonsense", "/usr/bin/netwatch"), None);
    }
}
