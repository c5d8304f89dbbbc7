//! Finds the processes of a container by its name or id: from the cgroups of processes and the
//! state files of Docker, podman, containerd and Kubernetes. Asks no daemon, changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Digits of an id, as all of these engines make them.
const ID_DIGITS: usize = 64;
/// Shortest abbreviation of an id: what `docker ps` prints has 12 digits.
const MIN_DIGITS: usize = 6;

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

fn find_below(root: &Path, name: &str) -> Result<Container> {
    let running = running(root);
    let is_id = name.len() >= MIN_DIGITS && is_hexadecimal(name);
    let mut ids: Vec<String> = running.iter().map(|(id, _)| id.clone()).collect();
    ids.dedup();
    let mut found: Vec<&String> = ids.iter().filter(|id| is_id && id.starts_with(name)).collect();
    if found.is_empty() {
        let named = named(root, name);
        found = ids.iter().filter(|id| named.contains(id)).collect();
    }
    match found.as_slice() {
        [id] => {
            let pid = running.iter().find(|(of, _)| of == *id).map(|(_, pid)| *pid).unwrap_or_default();
            Ok(Container { id: (*id).clone(), pid })
        }
        [] => Err(Error::other("find", format!("container {name}"), "no running container has this name or id")
            .hint("with another engine, give the id of a process of it with -p")),
        several => {
            let cause = format!("{} running containers have this name or id", several.len());
            Err(Error::other("find", format!("container {name}"), cause).hint("give the whole id"))
        }
    }
}

/// The containers that processes belong to, sorted by id, with their processes in ascending order.
fn running(root: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of = |pid: u32| {
        let text = fs::read_to_string(root.join(format!("proc/{pid}/cgroup"))).ok()?;
        Some((text.lines().find_map(container_of)?, pid))
    };
    let mut found: Vec<(String, u32)> = pids.filter_map(of).collect();
    found.sort();
    found
}

/// The container in a line of /proc/PID/cgroup (cgroups(7)): `0::/system.slice/docker-ID.scope`,
/// `0::/docker/ID`, `0::/machine.slice/libpod-ID.scope/container`,
/// `0::/kubepods.slice/…/cri-containerd-ID.scope`. The monitor of podman is in another cgroup,
/// `libpod-conmon-ID.scope`, and is no process of the container.
fn container_of(line: &str) -> Option<String> {
    let path = line.splitn(3, ':').nth(2)?;
    path.split('/').rev().find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (engine, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
        (id.len() == ID_DIGITS && is_hexadecimal(id) && !engine.ends_with("conmon")).then(|| id.to_owned())
    })
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The ids of containers with this name, running or not.
fn named(root: &Path, name: &str) -> Vec<String> {
    [by_docker(root, name), by_podman(root, name), by_monitor(root, name), by_nerdctl(root, name), by_pod(root, name)]
        .concat()
}

/// Docker: `/var/lib/docker/containers/ID/config.v2.json` has the name with a slash.
fn by_docker(root: &Path, name: &str) -> Vec<String> {
    let folders = children(&root.join("var/lib/docker/containers"));
    let has_name = |folder: &PathBuf| {
        let config = read_json(&folder.join("config.v2.json"));
        config.is_some_and(|config| config["Name"].as_str().is_some_and(|named| named.trim_start_matches('/') == name))
    };
    folders.into_iter().filter(has_name).filter_map(|folder| file_name(&folder)).collect()
}

/// podman of root, and of users: `storage/overlay-containers/containers.json`, which has the name
/// of the driver.
fn by_podman(root: &Path, name: &str) -> Vec<String> {
    let of_users = children(&root.join("home")).into_iter().map(|home| home.join(".local/share/containers/storage"));
    let stores = [root.join("var/lib/containers/storage")].into_iter().chain(of_users);
    let lists = stores.flat_map(|store| children(&store)).map(|driver| driver.join("containers.json"));
    lists.filter_map(|list| read_json(&list)).flat_map(|list| ids_in(&list, name)).collect()
}

/// `[{"id": "…", "names": ["web"]}]`
fn ids_in(list: &Value, name: &str) -> Vec<String> {
    let has_name = |one: &&Value| one["names"].as_array().is_some_and(|names| names.iter().any(|named| named == name));
    let all = list.as_array().into_iter().flatten();
    all.filter(has_name).filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
}

/// The monitor of podman and CRI-O: `conmon … -c ID … -n NAME …`. Containers with `--rootfs` are in
/// no list.
fn by_monitor(root: &Path, name: &str) -> Vec<String> {
    let monitored = |process: PathBuf| {
        let line = fs::read(process.join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let after = |flag: &[u8]| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
        let is_monitor = words.first().is_some_and(|program| program.ends_with(b"conmon"));
        let id = after(b"-c").filter(|_| is_monitor && after(b"-n") == Some(name.as_bytes()))?;
        Some(String::from_utf8_lossy(id).into_owned())
    };
    children(&root.join("proc")).into_iter().filter_map(monitored).collect()
}

/// nerdctl: `/var/lib/nerdctl/STORE/names/NAMESPACE/NAME` contains the id.
fn by_nerdctl(root: &Path, name: &str) -> Vec<String> {
    let stores = children(&root.join("var/lib/nerdctl"));
    let namespaces = stores.into_iter().flat_map(|store| children(&store.join("names")));
    let ids = namespaces.filter_map(|namespace| fs::read_to_string(namespace.join(name)).ok());
    ids.map(|id| id.trim().to_owned()).collect()
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

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
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
            assert_eq!(container_of(&line), Some(a.clone()), "{line}");
        }
        for path in ["/", "/system.slice/ssh.service", "/machine.slice/libpod-conmon-ID.scope", "/user.slice/IDID"] {
            let line = format!("0::{}", path.replace("ID", &a));
            assert_eq!(container_of(&line), None, "{line}");
        }
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
