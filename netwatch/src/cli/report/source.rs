//! Where a report comes from: a recorded run, or a capture that is replayed.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::flow::DEFAULT_MAX_FLOWS;
use crate::record;
use crate::replay::{Local, Plan, replay};
use crate::report::{Report, Series};
use crate::terminal::Spinner;

/// A report and what belongs to it.
pub(in crate::cli) struct Source {
    pub report: Report,
    pub series: Series,
}

impl Source {
    /// The run's id, or the capture's name without folders and ending.
    pub fn name(&self) -> String {
        match &self.report.replay {
            Some(replay) => {
                Path::new(&replay.file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
            None => self.report.run.id.clone(),
        }
    }
}

/// All of them, in the order in which they were named; the newest run if none was.
pub(in crate::cli) fn all(selectors: &[String], waiting: &Spinner) -> Result<Vec<Source>> {
    if selectors.is_empty() {
        return recorded(None).map(|source| vec![source]);
    }
    if selectors.len() > record::MOST_RUNS {
        let why = format!("at most {} are taken together", record::MOST_RUNS);
        return Err(Error::said("read", format!("{} runs", selectors.len()), why).hint("name fewer of them"));
    }
    let read = |(number, selector): (usize, &String)| {
        // Also of one: there may have been others before it.
        waiting.now(match selectors.len() {
            1 => "reading".to_owned(),
            many => format!("reading {number} of {many}"),
        });
        one(selector)
    };
    (1..).zip(selectors).map(read).collect()
}

fn one(selector: &str) -> Result<Source> {
    if is_capture(Path::new(selector)) { replayed(Path::new(selector)) } else { recorded(Some(selector)) }
}

/// pcap in both byte orders and both resolutions, pcapng.
fn is_capture(path: &Path) -> bool {
    const MAGIC: [[u8; 4]; 5] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    let is_file = path.metadata().is_ok_and(|data| data.is_file());
    let mut begin = [0; 4];
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && MAGIC.contains(&begin)
}

fn replayed(path: &Path) -> Result<Source> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let local = Local::new([]).map_err(|why| Error::said("use", "no local networks", why))?;
    let max_flows = u32::try_from(DEFAULT_MAX_FLOWS).unwrap_or(u32::MAX);
    let mut capture = Capture::open(path, &NEVER)?;
    let done = replay(&mut capture, &Plan { local, by_kernel: false, max_flows, resolve: None }, &mut ())?;
    Ok(Source { report: done.report, series: Series::default() })
}

fn recorded(selector: Option<&str>) -> Result<Source> {
    record::open(selector).map(|recorded| Source { report: recorded.report, series: recorded.series })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_now_is_said_and_not_what_was_read_before() {
        let waiting = Spinner::new("reading", true);
        let absent = |count: usize| vec!["./absent".to_owned(); count];
        for (count, said) in [(2, "reading 1 of 2"), (1, "reading")] {
            assert!(all(&absent(count), &waiting).is_err());
            assert_eq!(waiting.said(), said);
        }
    }
}
