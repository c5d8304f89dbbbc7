//! `netwatch report` on the command line: formats, files, captures, several runs, `--open`, and
//! error messages.

mod sample;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netwatch::record::write_file;
use sample::rich;
use serde_json::Value;
use tempfile::TempDir;

/// A recorded build, and nothing else.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let report = rich::build();
        write_file(&folder.path("build.netwatch"), &report).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn report(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// With a home of its own, so that no other run is there; in this folder.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netwatch"));
        command.arg("report").args(words).stdin(Stdio::null()).current_dir(self.0.path());
        for name in ["FORMAT", "OUTPUT", "WIDTH", "BY", "COLOR", "QUIET"] {
            command.env_remove(format!("NETWATCH_{name}"));
        }
        for name in ["SUDO_UID", "SUDO_GID", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.0.path());
        command
    }
}

#[track_caller]
fn output_of(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[test]
fn every_format_of_a_recorded_run() {
    let folder = Folder::new();
    let begins = [
        ("text", "cargo build --locked --features 'net io': exit 0 in 1.40 s"),
        ("json", "{\n  \"schema\": 2,"),
        ("ndjson", "{\"type\":\"report\",\"run_id\":\"3f2a\","),
        ("csv", "run_id,kind,"),
        ("markdown", "# Network traffic of `cargo`\n"),
        ("html", "<!DOCTYPE html>\n"),
    ];
    for (format, begin) in begins {
        let (out, err) = output_of(&folder.report(&["build.netwatch", "--format", format]), 0);
        assert!(out.starts_with(begin) && err.is_empty(), "{format}: {err}{}", &out[..out.len().min(200)]);
    }
    let (text, _) = output_of(&folder.report(&["build.netwatch"]), 0);
    assert!(text.starts_with("cargo build"), "text is the default");
}

#[test]
fn the_ending_of_the_file_chooses_the_format() {
    let folder = Folder::new();
    for (name, begin) in [
        ("a.md", "# Network"),
        ("a.csv", "run_id,"),
        ("a.html", "<!DOCTYPE"),
        ("a.txt", "cargo build"),
        ("a", "cargo build"),
    ] {
        let (out, err) = output_of(&folder.report(&["-o", name, "build.netwatch"]), 0);
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
        assert!(fs::read_to_string(folder.path(name)).unwrap().starts_with(begin), "{name}");
    }
    let document: Value = {
        output_of(&folder.report(&["-o", "a.json", "build.netwatch"]), 0);
        serde_json::from_str(&fs::read_to_string(folder.path("a.json")).unwrap()).unwrap()
    };
    let run = &document["run"];
    assert_eq!((&run["kernel_release"], &run["netwatch_version"]), (&"6.18.5".into(), &"0.1.0".into()));
}

/// Thousands of flows are one page of less than a megabyte. The time is printed only: a machine may
/// be busy.
#[test]
fn the_page_of_a_soak_is_small() {
    let folder = Folder::new();
    let report = rich::soak(6_000);
    write_file(&folder.path("soak.netwatch"), &report).unwrap();
    let started = std::time::Instant::now();
    output_of(&folder.report(&["-o", "soak.html", "soak.netwatch"]), 0);
    let bytes = fs::metadata(folder.path("soak.html")).unwrap().len();
    println!("{bytes} bytes in {:?}", started.elapsed());
    assert!(bytes < 1_000_000, "{bytes}");
}

#[test]
fn a_page_has_the_ports_a_verdict_and_a_comparison() {
    let folder = Folder::new();
    let mut before = rich::build();
    before.run.id = "1b0e".to_owned();
    before.endpoints.truncate(3);
    write_file(&folder.path("before.netwatch"), &before).unwrap();
    fs::write(folder.path("net.toml"), "[[allow]]\nname = \"*.example\"\nport = 443\n").unwrap();
    let flags = ["--baseline", "before.netwatch", "--policy", "net.toml", "-o", "page.html", "build.netwatch"];
    let (out, err) = output_of(&folder.report(&flags), 0);
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
    let page = fs::read_to_string(folder.path("page.html")).unwrap();
    for part in ["id=\"ports\"", "table inet", "Policy: 8 violations", "net.toml", "Compared with run 1b0e."] {
        assert!(page.contains(part), "{part}");
    }
    for (flags, cause) in [
        (["--baseline", "absent", "-o", "no.html"], "absent"),
        (["--policy", "absent.toml", "-o", "no.html"], "cannot read absent.toml"),
        (["--policy", "net.toml", "-o", "no.txt"], "--policy: the flag does not apply to format text"),
    ] {
        let (_, err) = output_of(&folder.report(&[&flags[..], &["build.netwatch"]].concat()), 2);
        assert!(err.contains(cause), "{err}");
    }
    assert!(!folder.path("no.html").exists() && !folder.path("no.txt").exists(), "a failure leaves no file");
}

/// So many that their numbers can be added up, whatever they are.
#[test]
fn more_runs_than_can_be_added_up_are_refused() {
    let runs = vec!["build.netwatch"; netwatch::record::MAX_RUNS + 1];
    let (_, err) = output_of(&Folder::new().report(&[&["--format", "nft"], runs.as_slice()].concat()), 2);
    assert!(err.contains("cannot read 501 runs: at most 500 can be combined"), "{err}");
}

#[test]
fn text_is_as_wide_as_wanted() {
    let folder = Folder::new();
    for width in ["40", "80", "200"] {
        let (out, _) = output_of(&folder.report(&["--width", width, "build.netwatch"]), 0);
        assert!(out.lines().all(|line| line.chars().count() <= width.parse().unwrap()), "{out}");
    }
    let (out, _) = output_of(&folder.report(&["--color", "always", "build.netwatch"]), 0);
    assert!(out.contains("\x1b["));
    let (out, _) = output_of(&folder.report(&["--by", "process", "build.netwatch"]), 0);
    assert!(out.contains("git-remote-http") && out != output_of(&folder.report(&["build.netwatch"]), 0).0, "{out}");
    let (_, err) = output_of(&folder.report(&["--width", "39", "build.netwatch"]), 2);
    assert!(err.contains("39"), "{err}");
}

#[test]
fn several_runs_in_formats_that_have_room_for_them() {
    let folder = Folder::new();
    let twice = ["build.netwatch", "build.netwatch"];
    let (csv, _) = output_of(&folder.report(&[&["--format", "csv"], &twice[..]].concat()), 0);
    assert_eq!(csv.matches("run_id,kind").count(), 1, "one line of names");
    let (lines, _) = output_of(&folder.report(&[&["--format", "ndjson"], &twice[..]].concat()), 0);
    assert_eq!(lines.matches("{\"type\":\"report\"").count(), 2);
    let (markdown, _) = output_of(&folder.report(&[&["--format", "markdown"], &twice[..]].concat()), 0);
    assert_eq!(markdown.matches("\n# Network traffic").count(), 1);
    for format in ["json", "html"] {
        let (_, err) = output_of(&folder.report(&[&["--format", format], &twice[..]].concat()), 2);
        assert_eq!(
            err,
            format!(
                "netwatch: cannot write several runs: a report in format {format} describes one run\nhint: name one run, or use --format ndjson\n"
            )
        );
    }
}

#[test]
fn a_capture_is_replayed() {
    let folder = Folder::new();
    // A frame of 60 bytes that is neither IP nor ARP.
    let frame = [&[2; 12][..], &[0x88, 0xcc], &[0; 46]].concat();
    let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1, 1_700_000_000, 0, 60, 60];
    let capture = [words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>(), frame].concat();
    fs::write(folder.path("trace.pcap"), capture).unwrap();
    let (out, _) = output_of(&folder.report(&["trace.pcap"]), 0);
    assert!(out.starts_with("netwatch: replay trace.pcap\n"), "{out}");
    let (out, _) = output_of(&folder.report(&["--format", "html", "trace.pcap"]), 0);
    assert!(out.contains("<h1>trace.pcap</h1>"));
}

#[test]
fn what_cannot_be_read_leaves_no_file() {
    let folder = Folder::new();
    for run in [&["no-such-run"][..], &[], &["999"]] {
        let (out, err) = output_of(&folder.report(&[&["-o", "x.html"], run].concat()), 2);
        assert!(
            out.is_empty()
                && err.starts_with("netwatch: cannot ")
                && err.lines().filter(|line| !line.starts_with("hint: ")).count() == 1,
            "{err}"
        );
        assert!(!folder.path("x.html").exists());
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_an_old_report_stays() {
    let folder = Folder::new();
    let (_, err) = output_of(&folder.report(&["-o", "/dev/full", "build.netwatch"]), 2);
    assert!(err.contains("(ENOSPC)"), "{err}");
    let (_, err) = output_of(&folder.report(&["-o", "no/such/folder.html", "build.netwatch"]), 2);
    assert!(err.contains("(ENOENT)"), "{err}");
    fs::write(folder.path("old.md"), "old").unwrap();
    output_of(&folder.report(&["-o", "old.md", "no-such-run"]), 2);
    assert_eq!(fs::read_to_string(folder.path("old.md")).unwrap(), "old");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    let mut child = folder
        .command(&["--format", "html", "build.netwatch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    output_of(&output, 0);
}

/// A folder with openers of our own, the only programs on PATH.
fn openers(folder: &Folder, scripts: &[(&str, &str)]) -> PathBuf {
    let bin = folder.path("bin");
    fs::create_dir(&bin).unwrap();
    for (name, script) in scripts {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

fn open_with(folder: &Folder, bin: &Path, words: &[&str]) -> Output {
    folder.command(words).env("PATH", bin).env("OPENED", folder.path("opened")).output().unwrap()
}

#[test]
fn open_shows_the_page_with_the_desktops_opener() {
    let folder = Folder::new();
    let bin = openers(&folder, &[("xdg-open", r#"echo "$1" > "$OPENED""#)]);
    let (out, err) = output_of(&open_with(&folder, &bin, &["--open", "build.netwatch"]), 0);
    let page = folder.path("netwatch-3f2a.html");
    assert_eq!((out.as_str(), err.as_str()), ("", "netwatch: opening netwatch-3f2a.html\n"));
    assert_eq!(fs::read_to_string(folder.path("opened")).unwrap().trim(), page.to_str().unwrap());
    assert!(fs::read_to_string(page).unwrap().starts_with("<!DOCTYPE html>"));
    output_of(&open_with(&folder, &bin, &["--open", "-q", "-o", "quiet.md", "build.netwatch"]), 0);
    assert!(fs::read_to_string(folder.path("opened")).unwrap().trim().ends_with("/quiet.md"));
}

#[test]
fn the_next_opener_is_tried_and_a_missing_one_is_reported() {
    let folder = Folder::new();
    let bin = openers(&folder, &[("xdg-open", "exit 3"), ("gio", r#"echo "$2" > "$OPENED""#)]);
    output_of(&open_with(&folder, &bin, &["--open", "build.netwatch"]), 0);
    assert!(fs::read_to_string(folder.path("opened")).unwrap().contains("netwatch-3f2a.html"));
    fs::remove_file(bin.join("gio")).unwrap();
    let (_, err) = output_of(&open_with(&folder, &bin, &["--open", "-q", "build.netwatch"]), 2);
    assert!(err.contains("xdg-open failed (exit status: 3)\nhint: the report is saved; open it manually"), "{err}");
    fs::remove_file(bin.join("xdg-open")).unwrap();
    let (_, err) = output_of(&open_with(&folder, &bin, &["--open", "-q", "build.netwatch"]), 2);
    assert!(err.contains("no opener such as xdg-open is installed"), "{err}");
}

#[test]
fn under_sudo_files_and_browsers_are_the_callers() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    if folder.0.path().metadata().unwrap().uid() != 0 {
        return println!("skipped: needs root to become another user");
    }
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(folder.0.path(), 0o777);
    open(&folder.path("build.netwatch"), 0o644);
    let bin = openers(&folder, &[("xdg-open", r#"/usr/bin/id -u > "$OPENED""#)]);
    let mut command = folder.command(&["--open", "build.netwatch"]);
    command.env("PATH", bin).env("OPENED", folder.path("opened")).env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    output_of(&command.output().unwrap(), 0);
    assert_eq!(fs::read_to_string(folder.path("opened")).unwrap(), "65534\n");
    assert_eq!(folder.path("netwatch-3f2a.html").metadata().unwrap().uid(), 65534);
}
