//! Releases the memory of code and constants that only the set-up needed. They stay in the page
//! cache, and a page fault maps them again if they are needed.

use std::fs;

/// Releases the pages of the program's own code and constants. Which pages are resident depends on
/// where the linker put what, because the kernel maps sixteen pages around each that is accessed.
/// Of read-only data only the segment at the start of the file: data that the loader has relocated
/// is in another segment and must stay.
pub(super) fn release_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let Some(program) = program.to_str() else { return };
    for (start, end) in maps.lines().filter_map(|line| code_range(line, program)) {
        // SAFETY: unmodified pages of a file: they stay readable with the same contents. A failure
        // changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The range of a line of proc_pid_maps(5), if it is code of the program: `55d0-55e0 r-xp 00001000
/// fe:00 1234   /usr/bin/netwatch`.
fn code_range(line: &str, program: &str) -> Option<(usize, usize)> {
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
    fn finds_only_code_of_the_program_itself() {
        let line = "55d0-55e0 r-xp 00001000 fe:00 1234   /usr/bin/netwatch";
        assert_eq!(code_range(line, "/usr/bin/netwatch"), Some((0x55d0, 0x55e0)));
        let constants = line.replace("r-xp 00001000", "r--p 00000000");
        assert_eq!(code_range(&constants, "/usr/bin/netwatch"), Some((0x55d0, 0x55e0)));
        for other in [line.replace("r-xp", "r--p"), line.replace("r-xp", "rw-p"), line.replace("netwatch", "other")] {
            assert_eq!(code_range(&other, "/usr/bin/netwatch"), None);
        }
    }

    #[test]
    fn the_program_still_runs() {
        release_code();
        release_code();
        assert_eq!(code_range("nonsense", "/usr/bin/netwatch"), None);
    }
}
