//! Tests of log files that are rotated.

use super::*;

const OWN: fn() -> (Uid, Gid) = || (Uid::effective(), Gid::effective());

fn contents(directory: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file"));
    let read = |path: PathBuf| fs::read_to_string(path).expect("text");
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().into_string().expect("a name"), read(file.path()))).collect();
    files.sort();
    files
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn the_oldest_file_is_removed_and_no_line_is_divided() {
    let dir = tempfile::tempdir().expect("a directory");
    let rotation = LogRotation { max_bytes: 6, max_files: 3 };
    let mut log = RotatedFile::open(&dir.path().join("log"), OWN(), rotation).expect("opened");
    for text in ["one\n", "two\n", "thr", "ee\nfo", "ur\n", "five and six\n", "seven\n", "8\n"] {
        log.write_all(text.as_bytes()).expect("written");
    }
    let expected = [("log", "8\n"), ("log.1", "seven\n"), ("log.2", "four\nfive and six\n")];
    assert_eq!(contents(dir.path()), pairs(&expected));
}

#[test]
fn a_file_that_exists_is_continued_and_one_file_is_enough() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    fs::write(&path, "one\n").expect("written");
    let rotation = LogRotation { max_bytes: 8, max_files: 1 };
    let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
    log.write_all(b"2\n").expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "one\n2\n")]));
    log.write_all(b"3\n4\n").expect("written");
    log.write_all(b"5\n").expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "5\n")]));
}

#[test]
fn a_log_with_a_long_name_is_rotated() {
    let dir = tempfile::tempdir().expect("a directory");
    let (name, first) = ("x".repeat(253), format!("{}.1", "x".repeat(253)));
    let rotation = LogRotation { max_bytes: 4, max_files: 2 };
    let mut log = RotatedFile::open(&dir.path().join(&name), OWN(), rotation).expect("opened");
    log.write_all(b"one\n").and_then(|()| log.write_all(b"two\n")).expect("written");
    assert_eq!(contents(dir.path()), pairs(&[(&name, "two\n"), (&first, "one\n")]));
}

#[test]
fn one_run_at_a_time_writes_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let rotation = LogRotation { max_bytes: 4, max_files: 2 };
    let open = || RotatedFile::open(&path, OWN(), rotation);
    let mut first = open().expect("opened");
    for text in ["one\n", "two\n", "three\n"] {
        let error = open().expect_err("another run writes it").to_string();
        assert!(error.contains("a run that has not ended writes it; choose another file"), "{error}");
        first.write_all(text.as_bytes()).expect("written");
    }
    // A forked process shares the open file.
    let shared = first.file.try_clone().expect("a descriptor");
    drop(first);
    open().expect("it is free").write_all(b"4\n").expect("written");
    drop(shared);
    assert_eq!(contents(dir.path()), pairs(&[("log", "4\n"), ("log.1", "three\n")]));
}

#[test]
fn a_file_that_is_removed_or_renamed_is_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let rotation = LogRotation { max_bytes: 100, max_files: 2 };
    let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
    let mut write = |text: &str| {
        log.next_check = Instant::now();
        log.write_all(text.as_bytes()).expect("written");
    };
    write("one\ntw");
    fs::remove_file(&path).expect("removed");
    write("o\n");
    fs::rename(&path, dir.path().join("log-old")).expect("renamed");
    write("three\n");
    assert_eq!(contents(dir.path()), pairs(&[("log", "three\n"), ("log-old", "two\n")]));
    assert!(RotatedFile::open(&path, OWN(), rotation).is_err(), "the new one is locked, too");
}

#[test]
fn half_a_line_at_the_end_becomes_a_line_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    fs::write(&path, "one\ntw").expect("written");
    let rotation = LogRotation { max_bytes: 100, max_files: 2 };
    let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
    log.write_all(b"three\nfo").expect("written");
    // Another program puts a file in its place.
    fs::write(dir.path().join("other"), "x").expect("written");
    fs::rename(dir.path().join("other"), &path).expect("renamed");
    log.next_check = Instant::now();
    log.write_all(b"ur\n").expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "x\nfour\n")]));
    fs::write(&path, "").expect("written");
    log.next_check = Instant::now();
    log.write_all(b"five\n").expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "five\n")]));
    drop(log);
    fs::write(&path, "one\ntw").expect("written");
    let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
    log.write_all(b"three\n").expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "one\ntw\nthree\n")]));
}

/// In a forked process, because the limit belongs to the whole process. The limit has the
/// effect of a full disk: the first part of a line is written, and then there is an error.
#[test]
fn half_a_line_on_a_full_disk_is_taken_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let rotation = LogRotation { max_bytes: 100, max_files: 2 };
    let mut log = RotatedFile::open(&path, OWN(), rotation).expect("opened");
    log.write_all(b"one\ntw").expect("written");
    let mut is_right = || -> io::Result<bool> {
        let limit = libc::rlimit { rlim_cur: 13, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a signal is ignored, and the limit is a valid struct.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        }
        let accepted = log.write(b"o\nthree\nfour\n")?;
        let is_refused = log.write(b"five and six\n").is_err();
        Ok(accepted == 2 && is_refused && fs::read(&path)? == b"one\ntwo\n")
    };
    // SAFETY: the child makes system calls only, allocates little, and exits.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        // SAFETY: ends the child without running destructors of the test.
        nix::unistd::ForkResult::Child => unsafe { libc::_exit(i32::from(!is_right().unwrap_or(false))) },
        nix::unistd::ForkResult::Parent { child } => {
            let exited = nix::sys::wait::WaitStatus::Exited(child, 0);
            assert_eq!(nix::sys::wait::waitpid(child, None), Ok(exited));
        }
    }
}

#[test]
fn a_rotation_that_fails_repeats_no_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let rotation = LogRotation { max_bytes: 8, max_files: 2 };
    let log = RotatedFile::open(&dir.path().join("log"), OWN(), rotation).expect("opened");
    let mut out = io::BufWriter::new(log);
    out.write_all(b"one\ntwo\n").and_then(|()| out.flush()).expect("written");
    let obstacle = dir.path().join("log.1");
    fs::create_dir(&obstacle).expect("a directory");
    for _ in 0..2 {
        let error = out.write_all(b"x\n").and_then(|()| out.flush()).expect_err("log.1 is a directory");
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR), "{error}");
    }
    fs::remove_dir(&obstacle).expect("removed");
    out.flush().expect("written");
    assert_eq!(contents(dir.path()), pairs(&[("log", "x\nx\n"), ("log.1", "one\ntwo\n")]));
}

#[test]
fn a_link_and_a_pipe_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
    std::os::unix::fs::symlink(dir.path().join("target"), &link).expect("a link");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let rotation = LogRotation { max_bytes: 8, max_files: 1 };
    for (path, cause) in [(link, "(ELOOP)"), (pipe, "(ENXIO)"), (dir.path().join(".."), "no file name")] {
        let error = RotatedFile::open(&path, OWN(), rotation).expect_err("refused").to_string();
        assert!(error.contains(cause), "{error}");
    }
    assert!(!dir.path().join("target").exists());
}
