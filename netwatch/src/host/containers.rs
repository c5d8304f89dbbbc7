//! Finds the processes of a container by its name or id: from the cgroups of processes and the
//! state files of Docker, podman, containerd and Kubernetes. Asks no daemon, changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Digits of an id, as all of these engines make them.
const ID_DIGITS: usize = 64;
/// Shortest abbreviation of an id: what `docker ps` prints has 12 digits.
const MIN_DIGITS: usize = 6;
/// Size of the largest state file that is read, and of all in the homes of a user, bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Entries of a store of podman that are looked at: it has about 15.
const MAX_STORE_ENTRIES: usize = 1024;
/// Lists of containers in a store that are read: one for each driver.
const MAX_LISTS: usize = 16;
/// Bytes of the command line of a process that are read: those of conmon have a few kilobytes.
const MAX_COMMAND_LINE_BYTES: u64 = 128 * 1024;
const ROOT: u32 = 0;

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// A process of it, in the PID namespace of netwatch.
    pub pid: u32,
}

impl Container {
    /// The container with this name or id, which may be abbreviated.
    pub fn find(name: &str) -> Result<Self> {
        find_below(Path::new("/"), name)
    }
}

/// A process in the cgroup of a container.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    id: String,
    /// The user who could make the cgroup: any user can give a cgroup of their own the id of
    /// another's container.
    maker: u32,
    pid: u32,
}

/// The id of a container with the name that is looked for, and the user who states it.
type NamedId = (String, u32);

fn find_below(root: &Path, name: &str) -> Result<Container> {
    let running = running(root);
    let is_id = name.len() >= MIN_DIGITS && is_hexadecimal(name);
    let named = named(root, name);
    // A user can name the containers of that user only.
    let is_named = |member: &Member| named.iter().any(|(id, owner)| *id == member.id && *owner == member.maker);
    // Of both, so that an id that a user made up does not hide the name of a container of root.
    let matches = |member: &Member| is_id && member.id.starts_with(name) || is_named(member);
    choose(&running, name, matches)?.ok_or_else(|| {
        Error::other("find", format!("container {name}"), "no running container has this name or id")
            .hint("with another engine, give the id of a process of it with -p")
    })
}

/// The only container whose members match. Those of root hide those of users. `running` is sorted.
fn choose(running: &[Member], name: &str, matches: impl Fn(&Member) -> bool) -> Result<Option<Container>> {
    let mut found: Vec<&Member> = running.iter().filter(|member| matches(member)).collect();
    if found.iter().any(|member| member.maker == ROOT) {
        found.retain(|member| member.maker == ROOT);
    }
    let distinct: BTreeSet<(&str, u32)> = found.iter().map(|member| (member.id.as_str(), member.maker)).collect();
    if distinct.len() > 1 {
        let cause = format!("{} running containers have this name or id", distinct.len());
        let hint = "give the whole id, or the id of a process of it with -p";
        return Err(Error::other("find", format!("container {name}"), cause).hint(hint));
    }
    Ok(found.first().map(|member| Container { id: member.id.clone(), pid: member.pid }))
}

/// The processes that belong to containers, sorted.
fn running(root: &Path) -> Vec<Member> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of = |pid: u32| {
        let text = fs::read_to_string(root.join(format!("proc/{pid}/cgroup"))).ok()?;
        let (id, parent) = text.lines().find_map(container_of)?;
        Some(Member { id: id.to_owned(), maker: maker(root, parent, pid)?, pid })
    };
    let mut found: Vec<Member> = pids.filter_map(of).collect();
    found.sort();
    found
}

/// The owner of a cgroup, who can make others in it. Where it cannot be read (cgroup v1, or
/// netwatch in a cgroup namespace of its own), only those of user sessions are those of users: of
/// the user of this process.
fn maker(root: &Path, cgroup: &str, pid: u32) -> Option<u32> {
    let is_below = !cgroup.split('/').any(|part| part == "..");
    let folder = root.join("sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
    match fs::symlink_metadata(folder) {
        Ok(data) if is_below => Some(data.uid()),
        _ if cgroup.split('/').any(|part| part == "user.slice") => user_of(root, pid),
        _ => Some(ROOT),
    }
}

/// The real user of a process. The owner of its folder in /proc may be root instead (proc(5)).
fn user_of(root: &Path, pid: u32) -> Option<u32> {
    let status = fs::read(root.join(format!("proc/{pid}/status"))).ok()?;
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// The container in a line of /proc/PID/cgroup (cgroups(7)), and the path of the cgroup around it:
/// `0::/system.slice/docker-ID.scope`, `0::/docker/ID`,
/// `0::/machine.slice/libpod-ID.scope/container`, `0::/kubepods.slice/…/cri-containerd-ID.scope`.
/// The monitor of podman is in another cgroup, `libpod-conmon-ID.scope`, and is no process of the
/// container.
fn container_of(line: &str) -> Option<(&str, &str)> {
    let mut path = line.splitn(3, ':').nth(2)?;
    while let Some((parent, part)) = path.rsplit_once('/') {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (engine, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
        if id.len() == ID_DIGITS && is_hexadecimal(id) && !engine.ends_with("conmon") {
            return Some((id, parent));
        }
        path = parent;
    }
    None
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The ids of containers with this name, running or not.
fn named(root: &Path, name: &str) -> Vec<NamedId> {
    let of_root = [by_docker(root, name), by_nerdctl(root, name), by_pod(root, name)].concat();
    let of_root = of_root.into_iter().map(|id| (id, ROOT));
    of_root.chain(by_podman(root, name)).chain(by_monitor(root, name)).collect()
}

/// Docker: `/var/lib/docker/containers/ID/config.v2.json` has the name with a slash.
fn by_docker(root: &Path, name: &str) -> Vec<String> {
    let folders = children(&root.join("var/lib/docker/containers"));
    let has_name = |folder: &PathBuf| {
        let config = read_json(&folder.join("config.v2.json"), ROOT_FILES);
        config.is_some_and(|config| config["Name"].as_str().is_some_and(|named| named.trim_start_matches('/') == name))
    };
    folders.into_iter().filter(has_name).filter_map(|folder| file_name(&folder)).collect()
}

/// podman of root, and of users: `storage/overlay-containers/containers.json`, which has the name
/// of the driver.
fn by_podman(root: &Path, name: &str) -> Vec<NamedId> {
    let mut unlimited = u64::MAX;
    let of_root = ids_in_store(&root.join("var/lib/containers/storage"), ROOT_FILES, name, &mut unlimited);
    let mut found: Vec<NamedId> = of_root.into_iter().map(|id| (id, ROOT)).collect();
    // Root does the work that users cause.
    let mut rooms: HashMap<u32, u64> = HashMap::new();
    for home in children(&root.join("home")) {
        let Ok(owner) = fs::metadata(&home).map(|data| data.uid()) else { continue };
        let room = rooms.entry(owner).or_insert(MAX_FILE_BYTES);
        let ids = ids_in_store(&home.join(".local/share/containers/storage"), Some(owner), name, room);
        found.extend(ids.into_iter().map(|id| (id, owner)));
    }
    found
}

/// `owner` as in [`read_file`]. At most `room` bytes are read.
fn ids_in_store(store: &Path, owner: Option<u32>, name: &str, room: &mut u64) -> Vec<String> {
    let entries = fs::read_dir(store).into_iter().flatten().flatten().take(MAX_STORE_ENTRIES);
    let drivers = entries.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b"-containers"));
    let mut found = Vec::new();
    for driver in drivers.take(MAX_LISTS) {
        let max_bytes = MAX_FILE_BYTES.min(*room);
        let Some(bytes) = read_file(&driver.path().join("containers.json"), owner, max_bytes) else { continue };
        *room -= bytes.len() as u64;
        let list = serde_json::from_slice(&bytes).unwrap_or_default();
        found.extend(ids_in(&list, name));
    }
    found
}

/// `[{"id": "…", "names": ["web"]}]`
fn ids_in(list: &Value, name: &str) -> Vec<String> {
    let has_name = |one: &&Value| one["names"].as_array().is_some_and(|names| names.iter().any(|named| named == name));
    let all = list.as_array().into_iter().flatten();
    all.filter(has_name).filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
}

/// The monitor of podman and CRI-O: `conmon … -c ID … -n NAME …`. Containers with `--rootfs` are
/// in no list.
fn by_monitor(root: &Path, name: &str) -> Vec<NamedId> {
    let monitored = |process: PathBuf| {
        let mut line = Vec::new();
        fs::File::open(process.join("cmdline")).ok()?.take(MAX_COMMAND_LINE_BYTES).read_to_end(&mut line).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let after = |flag: &[u8]| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
        let is_monitor = words.first().is_some_and(|program| program.ends_with(b"conmon"));
        let id = after(b"-c").filter(|_| is_monitor && after(b"-n") == Some(name.as_bytes()))?;
        let pid = file_name(&process)?.parse().ok()?;
        Some((String::from_utf8_lossy(id).into_owned(), user_of(root, pid)?))
    };
    children(&root.join("proc")).into_iter().filter_map(monitored).collect()
}

/// nerdctl: `/var/lib/nerdctl/STORE/names/NAMESPACE/NAME` contains the id.
fn by_nerdctl(root: &Path, name: &str) -> Vec<String> {
    let stores = children(&root.join("var/lib/nerdctl"));
    let namespaces = stores.into_iter().flat_map(|store| children(&store.join("names")));
    let ids = namespaces.filter_map(|namespace| read_file(&namespace.join(name), ROOT_FILES, MAX_FILE_BYTES));
    ids.map(|id| String::from_utf8_lossy(&id).trim().to_owned()).collect()
}

/// Kubernetes: `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`. The name is that of the pod,
/// or POD/CONTAINER; all containers of a pod have one network namespace.
fn by_pod(root: &Path, name: &str) -> Vec<String> {
    let logs = children(&root.join("var/log/containers"));
    let id = |log: PathBuf| {
        let file = file_name(&log)?;
        let mut parts = file.strip_suffix(".log")?.splitn(3, '_');
        let (pod, _namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (container, id) = rest.rsplit_once('-')?;
        (pod == name || format!("{pod}/{container}") == name).then(|| id.to_owned())
    };
    logs.into_iter().filter_map(id).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    // An engine that is not installed has no folder.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn read_json(path: &Path, owner: Option<u32>) -> Option<Value> {
    serde_json::from_slice(&read_file(path, owner, MAX_FILE_BYTES)?).ok()
}

/// For [`read_file`]: in folders that only root can write to.
const ROOT_FILES: Option<u32> = None;

/// Reads a regular file of at most `max_bytes` and of this owner (`None`: of anybody) with the
/// rights of root. Users choose what is in their homes: a link could lead to any file, and a FIFO
/// or a device has no end.
fn read_file(path: &Path, owner: Option<u32>, max_bytes: u64) -> Option<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let data = file.metadata().ok()?;
    if !data.is_file() || data.len() > max_bytes || owner.is_some_and(|owner| owner != data.uid()) {
        return None;
    }
    let mut bytes = Vec::new();
    // It may have grown since.
    file.take(max_bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(ID_DIGITS)
    }

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn the_cgroup_of_a_process_names_its_container() {
        let a = id('a');
        for path in [
            "/system.slice/docker-ID.scope",
            "/docker/ID",
            "/machine.slice/libpod-ID.scope/container",
            "/libpod_parent/libpod-ID",
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
            "/kubepods/besteffort/pod1/ID",
            "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
        ] {
            let line = format!("0::{}", path.replace("ID", &a));
            assert_eq!(container_of(&line).map(|(id, _)| id), Some(a.as_str()), "{line}");
        }
        for path in ["/", "/system.slice/ssh.service", "/machine.slice/libpod-conmon-ID.scope", "/user.slice/IDID"] {
            let line = format!("0::{}", path.replace("ID", &a));
            assert_eq!(container_of(&line), None, "{line}");
        }
    }

    #[test]
    fn the_maker_of_a_cgroup_owns_the_one_around_it() {
        let line = format!("0::/user.slice/libpod-{}.scope/container", id('a'));
        assert_eq!(container_of(&line).map(|(_, parent)| parent), Some("/user.slice"));
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "proc/7/status", "Name:\tx\nUid:\t1000\t0\t0\t0\n");
        let maker = |cgroup| maker(dir.path(), cgroup, 7);
        assert_eq!(
            (maker("/user.slice/x"), maker("/system.slice"), maker("/../user.slice")),
            (Some(1000), Some(0), Some(1000))
        );
        fs::create_dir_all(dir.path().join("sys/fs/cgroup/user.slice/x")).expect("made");
        let own = fs::metadata(dir.path()).expect("read").uid();
        assert_eq!(maker("/user.slice/x"), Some(own));
    }

    #[test]
    fn containers_of_root_hide_those_of_users() {
        let member = |digit: char, maker: u32, pid: u32| Member { id: id(digit), maker, pid };
        let mut running = vec![member('a', 0, 50), member('a', 1000, 10), member('b', 1000, 11), member('c', 1001, 12)];
        running.sort();
        let pid = |found: Result<Option<Container>>| found.expect("one at most").map(|container| container.pid);
        assert_eq!(pid(choose(&running, "a", |member| member.id == id('a'))), Some(50));
        assert_eq!(pid(choose(&running, "x", |_| true)), Some(50), "a user took the same name");
        assert_eq!(pid(choose(&running, "b", |member| member.id == id('b'))), Some(11));
        assert_eq!(pid(choose(&running, "d", |_| false)), None);
        choose(&running, "x", |member| member.maker != 0).expect_err("two users took the name");
    }

    #[test]
    fn a_user_names_only_the_containers_of_that_user() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for (pid, uid) in [(7, 1000), (8, 1001), (100, 1000), (101, 1001), (102, 0)] {
            write(root, &format!("proc/{pid}/status"), &format!("Uid:\t{uid}\t{uid}\n"));
        }
        for (pid, named) in [(7, 'a'), (8, 'c')] {
            write(root, &format!("proc/{pid}/cmdline"), &format!("conmon\0-c\0{}\0-n\0web\0", id(named)));
        }
        for (pid, digit, slice) in [(100, 'a', "user"), (101, 'b', "user"), (102, 'c', "system")] {
            write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{slice}.slice/libpod-{}.scope\n", id(digit)));
        }
        assert_eq!(find_below(root, "web").expect("found").pid, 100, "that of root has no such name");
    }

    /// The id is one that a user can give a cgroup, and the name that of a container of root.
    #[test]
    fn an_id_that_a_user_made_up_does_not_hide_a_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let name = "aaaaaaaa";
        for (pid, uid, digit, slice) in [(50, 1000, 'a', "user"), (60, 0, 'b', "system")] {
            write(root, &format!("proc/{pid}/status"), &format!("Uid:\t{uid}\t{uid}\n"));
            write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{slice}.slice/docker-{}.scope\n", id(digit)));
        }
        assert_eq!(find_below(root, name).expect("found").pid, 50, "nothing has that name");
        let config = format!("var/lib/docker/containers/{}/config.v2.json", id('b'));
        write(root, &config, &format!("{{\"Name\": \"/{name}\"}}"));
        assert_eq!(find_below(root, name).expect("found").pid, 60);
    }

    #[test]
    fn the_work_for_the_home_of_a_user_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let list = format!("[{{\"id\": \"{}\", \"names\": [\"web\"]}}]", id('a'));
        for number in 0..MAX_LISTS + 4 {
            write(dir.path(), &format!("{number}-containers/containers.json"), &list);
            write(dir.path(), &format!("{number}-images/containers.json"), &list);
        }
        let mut room = u64::MAX;
        assert_eq!(ids_in_store(dir.path(), ROOT_FILES, "web", &mut room).len(), MAX_LISTS);
        let mut room = 2 * list.len() as u64 + 1;
        assert_eq!(ids_in_store(dir.path(), ROOT_FILES, "web", &mut room).len(), 2);
        assert_eq!(room, 1);
    }

    #[test]
    fn only_small_regular_files_of_their_owner_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        write(dir.path(), "file", "[]");
        let uid = fs::metadata(path("file")).expect("read").uid();
        assert_eq!(read_file(&path("file"), Some(uid), MAX_FILE_BYTES).as_deref(), Some(&b"[]"[..]));
        assert_eq!(read_file(&path("file"), Some(uid + 1), MAX_FILE_BYTES), None, "of another user");
        std::os::unix::fs::symlink(path("file"), path("link")).expect("made");
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        fs::File::create(path("large")).expect("made").set_len(MAX_FILE_BYTES + 1).expect("grown");
        for name in ["link", "fifo", "large", "missing"] {
            assert_eq!(read_file(&path(name), Some(uid), MAX_FILE_BYTES), None, "{name}");
        }
        assert_eq!(read_file(Path::new("/dev/zero"), None, MAX_FILE_BYTES), None);
    }

    #[test]
    fn containers_are_found_by_name_in_the_files_of_each_engine() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let files = [
            ('a', format!("var/lib/docker/containers/{}/config.v2.json", id('a')), r#"{"Name": "/web"}"#.to_owned()),
            (
                'b',
                "var/lib/containers/storage/overlay-containers/containers.json".to_owned(),
                format!(r#"[{{"id": "{}", "names": ["db"]}}]"#, id('b')),
            ),
            ('c', "proc/7/cmdline".to_owned(), format!("/usr/bin/conmon\0-c\0{}\0-n\0cache\0", id('c'))),
            ('d', "var/lib/nerdctl/1935db59/names/default/proxy".to_owned(), id('d')),
            ('e', format!("var/log/containers/shop-1_default_app-{}.log", id('e')), String::new()),
        ];
        write(root, "proc/7/status", "Uid:\t0\t0\t0\t0\n");
        for (number, (digit, file, text)) in files.iter().enumerate() {
            write(root, file, text);
            write(root, &format!("proc/{}/cgroup", 100 + number), &format!("0::/x/docker-{}.scope\n", id(*digit)));
        }
        for (name, digit, pid) in
            [("web", 'a', 100), ("db", 'b', 101), ("cache", 'c', 102), ("proxy", 'd', 103), ("shop-1/app", 'e', 104)]
        {
            let found = find_below(root, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found, Container { id: id(digit), pid });
        }
        assert_eq!(find_below(root, "aaaaaaaaaaaa").expect("by id").pid, 100);
        for missing in ["aaaaa", "ffffffffffff", "shop-2", ""] {
            let error = find_below(root, missing).expect_err(missing).to_string();
            assert!(error.contains("no running container"), "{error}");
        }
    }

    #[test]
    fn an_abbreviation_of_two_ids_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let other = format!("{}b", &id('a')[1..]);
        for (pid, id) in [(1, &id('a')), (2, &other), (3, &other)] {
            write(dir.path(), &format!("proc/{pid}/cgroup"), &format!("0::/docker/{id}\n"));
        }
        let error = find_below(dir.path(), "aaaaaaaaaaaa").expect_err("two").to_string();
        assert!(error.contains("2 running containers"), "{error}");
        assert_eq!(find_below(dir.path(), &other).expect("one").pid, 2);
    }
}
