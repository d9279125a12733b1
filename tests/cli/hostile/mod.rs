//! Suite T10, first part: a store and a tree with forged content. fbuild never accepts it as a
//! result, never writes outside of the declared outputs, and at most builds again.

mod planted;
mod state;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::forge::{Entry, Kind, Payload, RawDigest, Record};
use super::forge::{file, folder, link, objects, place, raw};
use super::processes::fbt;
use super::project::Project;

const HONEST: &[u8] = b"honest\n";
const EVIL: &[u8] = b"evil\n";
/// The time and memory limits of every run.
const LIMITS: [&str; 5] = ["prlimit", "--data=536870912", "timeout", "-k5", "60"];
/// The maximum memory of a run in KiB.
const MAX_MEMORY: u64 = 64 << 10;
/// The maximum growth of the disk by a run in bytes: the outputs, a record per target, and their
/// blobs, in blocks.
const MAX_DISK: u64 = 64 << 10;

const BUILDFILE: &str = r#"
    target t {
        inputs in
        outputs file "out/" "gen/*.txt"
        sh "mkdir -p out/sub out/empty gen; cp in file; cp in out/a; cp in out/sub/b; cp in gen/c.txt"
    }
    target u { inputs in; outputs other; sh "cp in other; echo u >> other" }
"#;
const TREE: &[&str] = &[
    "Buildfile.kdl",
    "file",
    "gen/",
    "gen/c.txt",
    "in",
    "other",
    "out/",
    "out/a",
    "out/empty/",
    "out/sub/",
    "out/sub/b",
];

/// The expected end of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The forgery is accepted: it equals a real result.
    Taken,
    /// The forgery is no result; the commands run.
    Refused,
    /// The outputs are correct, whether the forgery was used or not.
    Harmless,
    /// The outputs are correct, or the run reports an error.
    Contained,
}

/// A built project next to a valuable file, and one of its records in parts.
struct Lab {
    project: Project,
    record: Record,
    payload: Payload,
    precious: Vec<String>,
}

impl Lab {
    fn new() -> Self {
        let project = Project::in_memory();
        project.buildfile(BUILDFILE);
        project.write("in", HONEST);
        project.write("../canary/precious", "precious\n");
        project.write("../canary/sub/precious", "precious\n");
        project.fbuild("run -q t u").under(LIMITS).end().ok("");
        let record = Record::read(&fs::read(record_of(&project, "t")).unwrap(), &project.key());
        let payload = honest(&record);
        let lab = Self {
            precious: project.snapshot("../canary"),
            project,
            record,
            payload,
        };
        lab.put("artifacts", &raw(EVIL).0, EVIL);
        lab.clear();
        lab
    }

    /// Removes the outputs and the state, so that the next run reads the store.
    fn clear(&self) {
        for output in ["file", "out", "gen", "other", ".build-cache/state"] {
            let path = self.project.path(output);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }

    fn state(&self) -> PathBuf {
        self.project.path(".build-cache")
    }

    fn canary(&self, below: &str) -> PathBuf {
        self.project.base().join("canary").join(below)
    }

    /// Returns the path of the record of `t`.
    fn record_path(&self) -> PathBuf {
        place(&self.state(), "actions", &self.record.key)
    }

    /// Returns the path of the blob of all outputs of `t`.
    fn blob_path(&self) -> PathBuf {
        place(&self.state(), "artifacts", &raw(HONEST).0)
    }

    fn put(&self, kind: &str, hash: &[u8; 32], bytes: &[u8]) {
        let path = place(&self.state(), kind, hash);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn put_record(&self, bytes: &[u8]) {
        fs::write(self.record_path(), bytes).unwrap();
    }

    fn put_payload(&self, payload: &Payload) {
        self.put_record(&self.record.with(payload).bytes());
    }

    /// Changes bytes of the original payload.
    fn put_changed(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut record = self.record.clone();
        change(&mut record.payload);
        self.put_record(&record.bytes());
    }

    /// Builds and checks the outcome.
    fn check(&self, name: &str, fate: Fate) {
        let peak = self.project.path("../peak");
        let measure = [fbt().as_os_str(), "peak".as_ref(), peak.as_os_str()];
        let run = self.project.fbuild("run -v t u").under(LIMITS);
        let before = disk_usage(&self.project.root);
        let output = run.under(measure).command().output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let context = format!("{name}, which is {fate:?}: exit code {code}\n{printed}");
        let precious = self.project.snapshot("../canary");
        assert_eq!(precious, self.precious, "{context}");
        assert!(!printed.contains("panicked"), "{context}");
        let disk = disk_usage(&self.project.root).saturating_sub(before);
        assert!(disk <= MAX_DISK, "{disk} bytes more on the disk: {context}");
        let memory: u64 = fs::read_to_string(peak).unwrap().trim().parse().unwrap();
        assert!(memory <= MAX_MEMORY, "{memory} KiB of memory: {context}");
        if fate == Fate::Contained && code == 1 {
            assert!(printed.contains("error"), "{context}");
            return;
        }
        assert_eq!(code, 0, "{context}");
        self.check_tree(&context);
        let is_taken = printed.contains("Restored t");
        match fate {
            Fate::Taken => assert!(is_taken, "{context}"),
            Fate::Refused => assert!(!is_taken, "{context}"),
            Fate::Harmless | Fate::Contained => {}
        }
    }

    fn check_tree(&self, context: &str) {
        let mut names = self.project.names("");
        names.retain(|name| !name.starts_with(".build-cache") && !name.starts_with(".build-trash"));
        assert_eq!(names, TREE, "{context}");
        for output in ["file", "out/a", "out/sub/b", "gen/c.txt", "in"] {
            let path = self.project.path(output);
            assert!(path.symlink_metadata().unwrap().is_file(), "{context}");
            assert_eq!(fs::read(path).unwrap(), HONEST, "{output}: {context}");
        }
        assert_eq!(self.project.read("other"), "honest\nu\n", "{context}");
    }
}

/// Prepares each case in a lab of its own, builds, and checks.
fn try_all(cases: Cases, least: usize) {
    assert!(cases.len() >= least, "only {} cases", cases.len());
    for (name, fate, plant) in cases {
        let lab = Lab::new();
        plant(&lab);
        lab.check(&name, fate);
    }
}

/// An action and its name.
type Named<T> = (&'static str, T);
type Change = fn(Vec<u8>) -> Vec<u8>;
type Plant = fn(&Lab, &Path);
type Cases = Vec<(String, Fate, Box<dyn Fn(&Lab)>)>;

fn case(cases: &mut Cases, name: &str, fate: Fate, plant: impl Fn(&Lab) + 'static) {
    cases.push((name.to_owned(), fate, Box::new(plant)));
}

/// Adds a case with a changed payload.
fn payload(cases: &mut Cases, name: &str, fate: Fate, edit: impl Fn(&mut Payload) + 'static) {
    case(cases, name, fate, move |lab| {
        let mut payload = lab.payload.clone();
        edit(&mut payload);
        lab.put_payload(&payload);
    });
}

/// Inserts an entry at its sorted place.
fn insert(payload: &mut Payload, entry: Entry) {
    payload.outputs.push(entry);
    payload.outputs.sort_by(|a, b| a.path.0.cmp(&b.path.0));
}

fn entry<'p>(payload: &'p mut Payload, path: &str) -> &'p mut Entry {
    let mut entries = payload.outputs.iter_mut();
    entries.find(|e| e.path.0 == path.as_bytes()).unwrap()
}

fn set_digest(payload: &mut Payload, path: &str, new: RawDigest) {
    let Kind::File { digest, .. } = &mut entry(payload, path).kind else {
        panic!("{path} is no file");
    };
    *digest = new;
}

#[test]
fn entries_at_invalid_paths_are_refused() {
    let mut cases = Cases::new();
    case(&mut cases, "the honest payload", Fate::Taken, |lab| {
        lab.put_payload(&lab.payload);
    });
    let long = |n: usize| [b"out/".to_vec(), vec![b'x'; n]].concat();
    let deep = [b"out/".to_vec(), b"x/".repeat(2050), b"x".to_vec()].concat();
    let paths: Vec<&[u8]> = vec![
        b"../escape",
        b"../canary/precious",
        b"..",
        b".",
        b"",
        b"/",
        b"/tmp/fbuild-escape",
        b"out/..",
        b"out/../in",
        b"out/../../escape",
        b"out//x",
        b"out/./x",
        b"./out/x",
        b"out/x/",
        b"out/x\0y",
        b"in",
        b"Buildfile.kdl",
        b".git/hooks/post-checkout",
        b"out/.git/hooks/x",
        b".build-cache/state",
        b".build-cache/stage/x",
        b"other",
        b"outx",
        b"OUT/a",
        b"File",
        b"file/below",
        b"out/a/below",
        b"gen/evil.exe",
        b"gen/deep/c.txt",
        b"gen",
        b"out-of/x",
        b"-rf",
        b"~/x",
    ];
    for path in paths
        .into_iter()
        .map(<[u8]>::to_vec)
        .chain([deep, long(256), long(4096)])
    {
        let name = format!("a file at `{}`", path.escape_ascii());
        payload(&mut cases, &name, Fate::Refused, move |payload| {
            insert(payload, file(&path, raw(EVIL)));
        });
    }
    for path in ["", "gen/deep", "elsewhere", "out/.git"] {
        let name = format!("a folder at `{path}`");
        payload(&mut cases, &name, Fate::Refused, move |payload| {
            insert(payload, folder(path));
        });
    }
    try_all(cases, 40);
}

#[test]
fn contradicting_entries_are_refused() {
    use Fate::Refused;
    let mut cases = Cases::new();
    let all = &mut cases;
    payload(all, "twice the same", Refused, |p| {
        insert(p, file("file", raw(HONEST)))
    });
    payload(all, "twice, differently", Refused, |p| {
        insert(p, file("out/a", raw(EVIL)))
    });
    payload(all, "out of order", Refused, |p| p.outputs.reverse());
    payload(all, "a file for a folder", Refused, |p| {
        *entry(p, "out") = file("out", raw(EVIL))
    });
    payload(all, "a link for a folder", Refused, |p| {
        *entry(p, "out") = link("out", "../canary")
    });
    payload(all, "a folder for a file", Refused, |p| {
        *entry(p, "file") = folder("file")
    });
    payload(all, "a folder for a match", Refused, |p| {
        *entry(p, "gen/c.txt") = folder("gen/c.txt")
    });
    for lacking in ["file", "out", "gen/c.txt"] {
        let name = format!("`{lacking}` is lacking");
        payload(all, &name, Refused, move |p| {
            p.outputs
                .retain(|entry| !entry.path.0.starts_with(lacking.as_bytes()));
        });
    }
    payload(all, "nothing at all", Refused, |p| p.outputs.clear());
    payload(all, "a file through a link", Refused, |p| {
        insert(p, link("out/l", "../../canary"));
        insert(p, file("out/l/precious", raw(EVIL)));
    });
    payload(
        all,
        "a link in the place of a folder with files",
        Refused,
        |p| {
            *entry(p, "out/sub") = link("out/sub", "../../canary/sub");
        },
    );
    payload(all, "a link through a link", Refused, |p| {
        insert(p, link("out/l", "../../canary"));
        insert(p, link("out/l/m", "precious"));
    });
    for (name, target) in [
        ("empty", vec![]),
        ("NUL", b"a\0b".to_vec()),
        ("long", vec![b'x'; 5000]),
    ] {
        payload(
            all,
            &format!("a link to something {name}"),
            Refused,
            move |p| {
                insert(p, link("out/l", &target));
            },
        );
    }
    payload(all, "a link with a digest of its target", Refused, |p| {
        let mut entry = link("out/l", "a");
        if let Kind::Link { content, .. } = &mut entry.kind {
            *content = Some(raw(EVIL));
        }
        insert(p, entry);
    });
    try_all(cases, 18);
}

#[test]
fn false_sizes_and_contents_are_refused() {
    use Fate::{Harmless, Refused};
    let mut cases = Cases::new();
    let all = &mut cases;
    let (hash, size) = raw(HONEST);
    for lie in [
        size + 1,
        size - 1,
        0,
        1 << 43,
        (1 << 44) + 1,
        1 << 63,
        u64::MAX,
    ] {
        payload(all, &format!("a size of {lie}"), Refused, move |p| {
            set_digest(p, "file", (hash, lie));
        });
    }
    payload(all, "more than any result in all", Refused, move |p| {
        set_digest(p, "file", (hash, 1 << 43));
        set_digest(p, "out/a", (hash, (1 << 43) + 1));
    });
    payload(all, "a hash that nothing has", Refused, |p| {
        set_digest(p, "file", ([0; 32], 7))
    });
    payload(all, "a log that is not there", Harmless, |p| {
        p.log = Some(([1; 32], 7))
    });
    payload(all, "a log without end", Harmless, |p| {
        p.log = Some(([1; 32], u64::MAX))
    });
    payload(all, "a manifest that is not there", Harmless, |p| {
        p.manifest = ([2; 32], 7)
    });
    payload(all, "a manifest that is none", Harmless, |p| {
        p.manifest = raw(EVIL)
    });
    payload(all, "a duration without end", Harmless, |p| {
        p.duration_ms = u64::MAX
    });
    let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    for (name, offset, byte) in [
        ("a device", 0, 3),
        ("no kind that there is", 0, 255),
        ("executable, twice", 1 + 32 + 1, 2),
    ] {
        case(all, name, Refused, move |lab| {
            lab.put_changed(|bytes| {
                let kind = at(bytes, b"out/a") + 5;
                bytes[kind + offset] = byte;
            });
        });
    }
    case(all, "a log that is neither there nor not", Refused, |lab| {
        let outputs = postcard::to_stdvec(&lab.payload.outputs).unwrap().len();
        lab.put_changed(|bytes| bytes[outputs] = 2);
    });
    for (name, count) in [
        (
            "a thousand million entries",
            vec![0x80, 0x94, 0xeb, 0xdc, 3],
        ),
        (
            "entries without end",
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        ("a number without end", vec![0xff; 40]),
    ] {
        case(all, name, Refused, move |lab| {
            lab.put_changed(|bytes| drop(bytes.splice(..1, count.clone())));
        });
    }
    for length in [0, 4, 6, 127] {
        case(
            all,
            &format!("a path of {length} bytes with 5"),
            Refused,
            move |lab| {
                lab.put_changed(|bytes| {
                    let start = at(bytes, b"out/a");
                    bytes[start - 1] = length;
                });
            },
        );
    }
    case(all, "more than a result", Refused, |lab| {
        lab.put_changed(|bytes| bytes.push(0))
    });
    case(all, "half a result", Refused, |lab| {
        lab.put_changed(|bytes| bytes.truncate(bytes.len() / 2));
    });
    try_all(cases, 25);
}

/// Returns the path of a target's record.
fn record_of(project: &Project, target: &str) -> PathBuf {
    let metadata = project.read(format!(".build-cache/metadata/{target}.meta.json"));
    let is_named = |path: &PathBuf| metadata.contains(path.file_name().unwrap().to_str().unwrap());
    let objects = objects(&project.path(".build-cache"), "actions");
    objects.into_iter().find(is_named).unwrap()
}

/// Returns the part of a record before its seal.
fn sealed(record: &Record) -> Vec<u8> {
    let mut bytes = record.bytes();
    bytes.truncate(bytes.len() - 64);
    bytes
}

/// The payload of `t` as fbuild wrote it.
fn honest(record: &Record) -> Payload {
    let outputs = vec![
        file("file", raw(HONEST)),
        file("gen/c.txt", raw(HONEST)),
        folder("out"),
        file("out/a", raw(HONEST)),
        folder("out/empty"),
        folder("out/sub"),
        file("out/sub/b", raw(HONEST)),
    ];
    let payload = Payload {
        outputs,
        log: None,
        manifest: (record.key, record.key_size),
        duration_ms: 1,
    };
    let ours = postcard::to_stdvec(&payload.outputs).unwrap();
    assert!(record.payload.starts_with(&ours), "the format is another");
    payload
}

/// Creates a node that is neither a file nor a folder.
fn make(path: &Path, kind: FileType) {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, kind, mode, 0).unwrap();
}

/// Returns the disk usage of everything below a folder.
fn disk_usage(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += disk_usage(&entry.path());
        }
    }
    sum
}
