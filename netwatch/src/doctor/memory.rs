//! What netwatch takes of the machine's memory, against what there is.

use std::fs;

use super::Finding;

const MIB: u64 = 1 << 20;
/// netwatch itself while a quiet command runs, at most; used until it can be measured. Bytes.
const PROCESS: u64 = 20 * MIB;

pub(super) fn budget(kernel_maps_bytes: Option<u64>) -> Finding {
    let resident = field("/proc/self/status", "VmRSS:");
    let available = field("/proc/meminfo", "MemAvailable:");
    judge(resident, kernel_maps_bytes, available)
}

fn judge(resident: Option<u64>, maps: Option<u64>, available: Option<u64>) -> Finding {
    let shown =
        |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes.div_ceil(MIB)));
    let detail =
        format!("{} resident, {} of kernel maps, {} available", shown(resident), shown(maps), shown(available));
    let needed = PROCESS.max(resident.unwrap_or(0)) + maps.unwrap_or(0);
    match available {
        Some(available) if available < needed => {
            Finding::warn("memory", detail, "the maps may not be granted: free some memory")
        }
        _ => Finding::ok("memory", detail),
    }
}

/// A line of these files, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn warns_when_the_maps_do_not_fit() {
        let plenty = judge(Some(7 * MIB), Some(48 * MIB), Some(900 * MIB));
        assert_eq!(plenty.to_string(), "ok    memory: 7 MiB resident, 48 MiB of kernel maps, 900 MiB available");
        assert_eq!(judge(Some(7 * MIB), Some(48 * MIB), Some(40 * MIB)).level, Level::Warn);
        assert_eq!(judge(None, None, None).level, Level::Ok);
    }

    #[test]
    fn reads_the_kernels_files() {
        assert!(field("/proc/self/status", "VmRSS:").is_some_and(|bytes| bytes > MIB));
    }
}
