//! Finds the program file of a tool, and asks it for its version.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use super::{Error, PROBE_TIME, find, probe};
use crate::action::ToolVersion;
use crate::action::environment::HostEnv;
use crate::action::tools::{ProbedTool, ToolFile, ToolSite};
use crate::buildfile::model::Version;
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::path::Root;
use crate::stamp::Stamp;

/// Folders of version managers whose programs start other programs: asdf, mise, pyenv, nodenv
/// and others call theirs `shims`.
const SHIM_FOLDERS: [&str; 3] = ["shims", ".volta", ".proto"];

/// The most probes at a time. A probe waits more than it computes.
const MOST_PROBES: usize = 8;

/// Finds the program files of tools as their commands would, in the order of the sites.
pub fn find_tools(
    sites: &[&ToolSite],
    host_env: &HostEnv,
    root: &Root,
) -> Vec<Result<ToolFile, Error>> {
    let mut known: HashMap<(&str, Option<&OsStr>), ToolFile> = HashMap::new();
    let mut found = Vec::new();
    for site in sites {
        let key = (&*site.name, site.path(host_env));
        // Many targets use one tool from different folders, which usually makes no difference.
        let is_anywhere = is_absolute(key.0, key.1);
        let file = match known.get(&key).filter(|_| is_anywhere) {
            Some(file) => Ok(file.clone()),
            None => find_tool(site, host_env, root),
        };
        if let Ok(file) = &file
            && is_anywhere
        {
            known.insert(key, file.clone());
        }
        found.push(file);
    }
    found
}

/// Returns true if a program is the same one from each folder.
fn is_absolute(name: &str, path: Option<&OsStr>) -> bool {
    let path = path.map_or(&b"/"[..], OsStr::as_encoded_bytes);
    let mut folders = path.split(|byte| *byte == b':');
    !name.contains('/') && folders.all(|folder| folder.starts_with(b"/"))
}

/// Finds the program file of a tool as its commands would.
fn find_tool(site: &ToolSite, host_env: &HostEnv, root: &Root) -> Result<ToolFile, Error> {
    let file = find(
        OsStr::new(&site.name),
        site.path(host_env),
        &folder(site, root),
    )?;
    Ok(ToolFile {
        stamp: Stamp::of_path(&file).unwrap_or_else(Stamp::unknown),
        is_shim: is_shim(&file),
        path: file.into(),
    })
}

/// Finds and probes tools, several at a time. Returns the results in the order of the sites.
pub fn probe_tools(
    sites: &[&ToolSite],
    host_env: &HostEnv,
    root: &Root,
    cancel: &Cancel,
) -> Vec<Result<ProbedTool, Error>> {
    let work = |site: &ToolSite| probe_tool(site, host_env, root, cancel);
    if sites.len() <= 1 {
        return sites.iter().map(|site| work(site)).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(site) = sites.get(at) else {
                return results;
            };
            results.push((at, work(site)));
        }
    };
    let mut results: Vec<_> = std::thread::scope(|threads| {
        let workers = 0..sites.len().min(MOST_PROBES);
        let workers: Vec<_> = workers.map(|_| threads.spawn(worker)).collect();
        let joined = workers.into_iter().map(ScopedJoinHandle::join);
        let results = joined.map(|r| r.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.flatten().collect()
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Finds a tool and runs its probe, in the folder and with the variables of its commands.
fn probe_tool(
    site: &ToolSite,
    host_env: &HostEnv,
    root: &Root,
    cancel: &Cancel,
) -> Result<ProbedTool, Error> {
    // Found first: a file that is replaced during the probe is then probed again.
    let file = find_tool(site, host_env, root)?;
    let argv: Vec<OsString> = site.probe.iter().map(OsString::from).collect();
    let dir = folder(site, root);
    let mut env = site.environment(host_env);
    env.insert("PWD".into(), dir.clone().into());
    let output = probe(&argv, &env, &dir, PROBE_TIME, cancel)?;
    let version = Version::find(&String::from_utf8_lossy(&output));
    Ok(ProbedTool {
        file,
        variables: site.variables(host_env),
        version: ToolVersion {
            version: version.map_or_else(String::new, |version| version.to_string()),
            output: Digest::of(&output),
        },
    })
}

/// Returns the working directory of the commands, or the nearest existing one above it: a
/// needed target may create it.
fn folder(site: &ToolSite, root: &Root) -> PathBuf {
    let dir = root.absolute(&site.dir);
    let mut folders = dir.ancestors();
    let existing = folders.find(|folder| folder.is_dir());
    existing.unwrap_or(root.path()).to_owned()
}

/// Returns true if a program may start another one in its place.
fn is_shim(file: &Path) -> bool {
    let is_known = file.components().any(|component| {
        let name = component.as_os_str();
        SHIM_FOLDERS.iter().any(|folder| name == *folder)
    });
    // A program with several names may act as the one that it is called by.
    let is_plain = file
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
    is_known || !is_plain || !is_binary(file) || is_rustup_copy(file)
}

/// Returns true if a program is a copy of the `rustup` beside it: rustup makes copies where it
/// cannot make links.
fn is_rustup_copy(file: &Path) -> bool {
    let size = |file: &Path| file.metadata().map(|metadata| metadata.len());
    let rustup = file.with_file_name("rustup");
    file != rustup && size(&rustup).is_ok_and(|rustup| size(file).is_ok_and(|size| size == rustup))
}

/// Returns true if a file is a binary program; anything else is run by an interpreter.
fn is_binary(file: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::path::RelPath;

    #[test]
    fn links_scripts_and_version_managers_are_shims() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("shims")).unwrap();
        for (name, content) in [
            ("binary", &b"\x7fELF..."[..]),
            ("shims/binary", b"\x7fELF..."),
            ("linked", b"\x7fELF..."),
            ("script", b"#!/bin/sh"),
            ("rustup", b"\x7fELF rustup"),
            ("cargo", b"\x7fELF rustup"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        symlink("binary", path("link")).unwrap();
        fs::hard_link(path("linked"), path("other name")).unwrap();
        assert!(!is_shim(&path("binary")));
        for shim in [
            "shims/binary",
            "script",
            "link",
            "linked",
            "cargo",
            "absent",
        ] {
            assert!(is_shim(&path(shim)), "{shim}");
        }
    }

    #[test]
    fn tool_on_a_relative_path_depends_on_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let bin = dir.path().join(name).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("tool"), "#!/bin/sh").unwrap();
            fs::set_permissions(bin.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let host_env = [("PATH".into(), "bin:/bin".into())].into();
        let site = |dir: &str| ToolSite {
            name: "tool".to_owned(),
            probe: Vec::new(),
            dir: RelPath::new(dir).unwrap(),
            env: BTreeMap::new(),
            pass: Vec::new(),
        };
        let found = find_tools(&[&site("a"), &site("b")], &host_env, &root);
        let found: Vec<PathBuf> = found
            .into_iter()
            .map(|file| file.unwrap().path.to_path_buf())
            .collect();
        let expected = ["a", "b"].map(|name| root.path().join(name).join("bin/tool"));
        assert_eq!(found, expected);
    }
}
