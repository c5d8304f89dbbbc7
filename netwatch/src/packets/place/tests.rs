//! Names, replaced files, pipes.

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn place(dir: &Path, name: &str, replaces: bool) -> Arc<CapturePlace> {
    let owner = (Uid::effective(), Gid::effective());
    Arc::new(CapturePlace::open(&dir.join(name), owner, replaces).expect("a directory"))
}

#[test]
fn the_suffix_selects_format_and_compression() {
    assert_eq!(of_name("a.pcapng"), (Format::PcapNg, Compression::None));
    assert_eq!(of_name("a.pcap.gz"), (Format::Pcap, Compression::Gzip));
    assert_eq!(of_name("a.pcapng.zst"), (Format::PcapNg, Compression::Zstd));
    assert_eq!(of_name("trace"), (Format::PcapNg, Compression::None));
    assert_eq!(of_name("A.PCAP"), (Format::Pcap, Compression::None));
    assert_eq!(of_name("a.Pcap.ZST"), (Format::Pcap, Compression::Zstd));
}

#[test]
fn other_compressions_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["x.pcap.xz", "x.pcapng.BZ2", "x.lz4"] {
        let refused = place(dir.path(), name, false).require_compression().expect_err("refused").to_string();
        assert!(refused.contains("does not write") && refused.contains(".zst"), "{refused}");
    }
    place(dir.path(), "xz.pcapng", false).require_compression().expect("no suffix of a compression");
}

#[test]
fn a_file_that_nothing_used_is_removed_and_an_older_one_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("older"), "older").expect("written");
    for (name, keeps) in [("kept", true), ("removed", false), ("older", false), ("older", true)] {
        let place = place(dir.path(), name, true);
        let (_file, unused) = place.open_named().expect("created");
        let is_older = || std::fs::read(dir.path().join(name)).is_ok_and(|text| text == b"older");
        assert_eq!(is_older(), name == "older", "nothing uses the new one yet");
        let unused = unused.expect("a new file");
        if keeps {
            unused.keep().expect("renamed");
        } else {
            drop(unused);
        }
        let exists = dir.path().join(name).exists();
        assert_eq!((exists, is_older()), (keeps || name == "older", !keeps && name == "older"), "{name}");
    }
    let mut left: Vec<_> = dir.path().read_dir().expect("a directory").flatten().map(|at| at.file_name()).collect();
    left.sort();
    assert_eq!(left, ["kept", "older"]);
}

#[test]
fn what_cannot_be_replaced_is_refused_before_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("x")).expect("created");
    let refused = place(dir.path(), "x", true).open_named().expect_err("a directory");
    assert_eq!(refused.errno(), Some(Errno::EISDIR));
    if Uid::effective().is_root() {
        std::fs::write(dir.path().join("y"), "of root").expect("written");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("ours");
        let other = (Uid::from_raw(65534), Gid::from_raw(65534));
        let place = Arc::new(CapturePlace::open(&dir.path().join("y"), other, true).expect("a directory"));
        assert_eq!(place.open_named().expect_err("a file of root").errno(), Some(Errno::EPERM));
    }
}

#[test]
fn a_pipe_without_a_reader_is_reported_and_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.pcapng");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
    let mut reader = None;
    let file = place(dir.path(), "x.pcapng", false).open_pipe("x.pcapng", Duration::ZERO, || {
        reader = Some(nix::fcntl::open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).expect("opened"));
    });
    let flags = fcntl(file.expect("it has a reader"), FcntlArg::F_GETFL).expect("flags");
    assert!(reader.is_some() && !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
}

#[test]
fn two_outputs_have_two_names() {
    let dir = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).expect("a link");
    let file = place(dir.path(), "x.pcapng", true);
    for same in ["x.pcapng", "link/x.pcapng", "x-00001.pcapng"] {
        let refused = place(dir.path(), same, true).require_other_than(&file).expect_err(same).to_string();
        assert!(refused.contains("cannot both"), "{refused}");
    }
    place(dir.path(), "x.txt", true).require_other_than(&file).expect("another name");
    let null = || place(Path::new("/dev"), "null", true);
    null().require_other_than(&null()).expect("it keeps nothing");
}

#[test]
fn numbers_stand_before_the_suffix() {
    let dir = tempfile::tempdir().expect("a directory");
    let name = |name: &str| place(dir.path(), name, false).name(Some(7));
    assert_eq!(name("a.b.pcapng.zst"), "a.b-00007.pcapng.zst");
    assert_eq!(name("A.PCAPNG.gz"), "A-00007.PCAPNG.gz");
    assert_eq!((name("a.cap"), name("a"), name(".a")), ("a-00007.cap".into(), "a-00007".into(), ".a-00007".into()));
}

#[test]
fn a_replaced_file_has_its_own_mode_and_the_target_of_a_link_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("open.pcapng"), "older").expect("written");
    std::fs::set_permissions(path("open.pcapng"), Permissions::from_mode(0o666)).expect("the file is ours");
    let mut older = File::open(path("open.pcapng")).expect("a file");
    std::os::unix::fs::symlink(path("open.pcapng"), path("link.pcapng")).expect("a link");
    for name in ["link.pcapng", "open.pcapng"] {
        let (file, unused) = place(dir.path(), name, true).open_named().expect("created");
        unused.expect("a new file").keep().expect("replaced");
        assert_eq!(file.metadata().expect("metadata").mode() & 0o7777, 0o600);
        assert!(path(name).symlink_metadata().expect("metadata").is_file(), "{name}");
    }
    let mut text = String::new();
    older.read_to_string(&mut text).expect("read");
    assert_eq!(text, "older");
}

#[test]
fn only_the_exact_name_may_be_a_pipe_and_only_one_of_the_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = |name: &str| nix::unistd::mkfifo(&dir.path().join(name), Mode::S_IRWXU).expect("a pipe");
    pipe("x-00001.pcapng");
    let numbered = place(dir.path(), "x.pcapng", false).create_unused("x-00001.pcapng").expect_err("it is a pipe");
    assert_eq!(numbered.errno(), Some(Errno::EEXIST));
    pipe("x.pcapng");
    let _reader = nix::fcntl::open(&dir.path().join("x.pcapng"), OFlag::O_RDWR, Mode::empty()).expect("opened");
    place(dir.path(), "x.pcapng", false).open_named().expect("a stream");
    if Uid::effective().is_root() {
        let other = (Some(Uid::from_raw(65534)), None);
        nix::unistd::chown(&dir.path().join("x.pcapng"), other.0, other.1).expect("root changes owners");
        let refused = place(dir.path(), "x.pcapng", false).open_named().expect_err("refused").to_string();
        assert!(refused.contains("another user"), "{refused}");
    }
}

#[test]
fn the_null_device_may_belong_to_anyone() {
    use nix::sys::stat::{SFlag, makedev, mknod};
    if !Uid::effective().is_root() {
        return println!("skipped: needs root to make devices");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let device = |name: &str, minor| {
        let path = dir.path().join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, minor)).expect("root makes devices");
        nix::unistd::chown(&path, Some(Uid::from_raw(65534)), None).expect("root changes owners");
        place(dir.path(), name, false).open_named()
    };
    match device("null", 3) {
        Err(error) if error.errno() == Some(Errno::EACCES) => {} // mounted with nodev
        opened => drop(opened.expect("a stream")),
    }
    // /dev/zero
    assert!(device("zero", 5).expect_err("refused").to_string().contains("another user"));
}

#[test]
fn an_existing_file_is_replaced_only_if_permitted() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("x.pcapng"), "older").expect("written");
    let error = place(dir.path(), "x.pcapng", false).create_unused("x.pcapng").expect_err("it exists").to_string();
    assert!(error.contains("(EEXIST)") && error.contains("--force"), "{error}");
    let (_, unused) = place(dir.path(), "x.pcapng", true).create_unused("x.pcapng").expect("created");
    unused.keep().expect("replaced");
    assert_eq!(std::fs::read(dir.path().join("x.pcapng")).expect("read"), b"");
}

#[test]
fn a_new_file_has_no_name_until_it_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = || std::fs::read_dir(dir.path()).expect("a directory").flatten().count();
    let is_root = Uid::effective().is_root();
    let own = (Uid::effective(), Gid::effective());
    let owner = if is_root { (Uid::from_raw(65534), Gid::from_raw(65534)) } else { own };
    nix::unistd::chown(dir.path(), Some(owner.0), Some(owner.1)).expect("the directory is ours");
    let create = |replaces| {
        let place = Arc::new(CapturePlace::open(&dir.path().join("x.pcapng"), owner, replaces).expect("a directory"));
        place.create_unused("x.pcapng").expect("created")
    };
    let (first, second) = (create(false), create(false));
    if !matches!(first.1.created, CreatedFile::Unnamed(_)) {
        return println!("skipped: this file system has only files with names");
    }
    assert_eq!(names(), 0, "a process that is killed leaves nothing");
    first.1.keep().expect("named");
    let about = first.0.metadata().expect("metadata");
    assert_eq!((about.mode() & 0o7777, about.uid(), about.nlink()), (0o600, owner.0.as_raw(), 1));
    let refused = second.1.keep().expect_err("another one has the name").to_string();
    assert!(refused.contains("(EEXIST)") && refused.contains("--force"), "{refused}");
    create(true).1.keep().expect("replaced");
    assert_eq!((names(), first.0.metadata().expect("metadata").nlink()), (1, 0));
}

#[test]
fn a_directory_and_a_name_that_is_no_text_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("dir")).expect("created");
    for replaces in [false, true] {
        let refused = place(dir.path(), "dir", replaces).open_named().expect_err("a directory").to_string();
        assert!(refused.contains("(EISDIR)") && !refused.contains("--force"), "{refused}");
    }
    let owner = (Uid::effective(), Gid::effective());
    let refused = |name: &[u8]| {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        CapturePlace::open(&path, owner, false).expect_err("refused").to_string()
    };
    assert!(refused(b"new.pcap/").contains("new.pcap/: Is a directory"), "{}", refused(b"new.pcap/"));
    assert!(refused(b"a\xff.pcap").contains("the name is not valid UTF-8"), "{}", refused(b"a\xff.pcap"));
}

/// A new file as on a file system that has only files with names.
fn with_name(place: &Arc<CapturePlace>, name: &str) -> (File, UnusedFile) {
    let is_there = place.check_replaceable(name).expect("replaceable");
    let (file, created) = place.create_named(name, is_there).expect("created");
    let (created, name, creator) = (CreatedFile::Named(created), name.to_owned(), Some(std::process::id()));
    (file, UnusedFile { place: place.clone(), created, name, creator })
}

/// The names in a directory, sorted.
fn names_in(dir: &Path) -> Vec<String> {
    let names = dir.read_dir().expect("a directory").flatten();
    let mut names: Vec<_> = names.map(|at| at.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_needs_a_name_has_its_own_or_a_temporary_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), "new", true);
    std::fs::write(dir.path().join("older"), "older").expect("written");
    let (new, replacement) = (with_name(&place, "new"), with_name(&place, "older"));
    assert_eq!(names_in(dir.path()), [temporary_name(0), "new".to_owned(), "older".to_owned()]);
    let refused = place.create_named("new", false).expect_err("another one has the name");
    assert_eq!(refused, Errno::EEXIST);
    drop((new, replacement));
    assert_eq!(names_in(dir.path()), ["older"], "nothing used the new ones");
    assert_eq!(std::fs::read(dir.path().join("older")).expect("read"), b"older");
    for name in ["new", "older"] {
        let (file, unused) = with_name(&place, name);
        unused.keep().expect("it has its name");
        let (about, found) = (file.metadata().expect("about"), dir.path().join(name).metadata().expect("there"));
        assert_eq!((about.mode() & 0o7777, about.ino()), (0o600, found.ino()), "{name}");
    }
    assert_eq!(names_in(dir.path()), ["new", "older"]);
}

#[test]
fn the_first_file_of_a_series_that_needs_a_name_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), "x.pcapng", true);
    for name in ["x-00001.pcapng", "x-00002.pcapng"] {
        std::fs::write(dir.path().join(name), "older").expect("written");
    }
    let (_file, unused) = with_name(&place, "x-00001.pcapng");
    unused.keep_as_first().expect("named");
    assert_eq!(names_in(dir.path()), ["x-00001.pcapng"]);
    assert_eq!(std::fs::read(dir.path().join("x-00001.pcapng")).expect("read"), b"", "the new one");
}
