//! T10, the first part: a store and a tree in which somebody has put what fbuild never
//! writes. None of it is taken for a result, none of it leads out of the declared outputs,
//! and none of it costs more than a rebuild.

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
/// Every run has so many seconds, and so much memory before it is ended.
const LIMITS: [&str; 5] = ["prlimit", "--data=536870912", "timeout", "-k5", "60"];
/// No run may have more memory at a time, in KiB.
const MOST_MEMORY: u64 = 64 << 10;
/// No run may add more to the disk, in bytes, than a run of the commands does: the outputs, a
/// record for each target and what the cache keeps of them, in blocks.
const MOST_DISK: u64 = 64 << 10;

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

/// What may become of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is taken: the forgery is so good that it is none.
    Taken,
    /// It is no result; the commands run.
    Refused,
    /// The outputs are right, and how that came about is nobody's business.
    Harmless,
    /// Even the outputs may not be there, if that is said.
    Contained,
}

/// A built project beside something precious, and one record of it in pieces.
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
        let record = Record::read(&fs::read(record_of(&project, "t")).unwrap());
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

    /// Removes the outputs and what is remembered of them, so that the store is asked.
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

    /// Returns where the record of `t` is.
    fn record_path(&self) -> PathBuf {
        place(&self.state(), "actions", &self.record.key)
    }

    /// Returns where the blob is that all outputs of `t` are.
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

    /// Changes the bytes of the honest payload.
    fn put_changed(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut record = self.record.clone();
        change(&mut record.payload);
        self.put_record(&record.bytes());
    }

    /// Builds, and checks what came of it.
    fn check(&self, name: &str, fate: Fate) {
        let peak = self.project.path("../peak");
        let measure = [fbt().as_os_str(), "peak".as_ref(), peak.as_os_str()];
        let run = self.project.fbuild("run -v t u").under(LIMITS);
        let before = disk_usage(&self.project.root);
        let output = run.under(measure).command().output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let context = format!("{name}, which is {fate:?}: it ended with {code}\n{said}");
        let precious = self.project.snapshot("../canary");
        assert_eq!(precious, self.precious, "{context}");
        assert!(!said.contains("panicked"), "{context}");
        let disk = disk_usage(&self.project.root).saturating_sub(before);
        assert!(
            disk <= MOST_DISK,
            "{disk} bytes more on the disk: {context}"
        );
        let memory: u64 = fs::read_to_string(peak).unwrap().trim().parse().unwrap();
        assert!(memory <= MOST_MEMORY, "{memory} KiB of memory: {context}");
        if fate == Fate::Contained && code == 1 {
            assert!(said.contains("error"), "{context}");
            return;
        }
        assert_eq!(code, 0, "{context}");
        self.check_tree(&context);
        let is_taken = said.contains("Restored t");
        match fate {
            Fate::Taken => assert!(is_taken, "{context}"),
            Fate::Refused => assert!(!is_taken, "{context}"),
            Fate::Harmless | Fate::Contained => {}
        }
    }

    fn check_tree(&self, context: &str) {
        let mut names = self.project.names("");
        names.retain(|name| !name.starts_with(".build-cache"));
        assert_eq!(names, TREE, "{context}");
        for output in ["file", "out/a", "out/sub/b", "gen/c.txt", "in"] {
            let path = self.project.path(output);
            assert!(path.symlink_metadata().unwrap().is_file(), "{context}");
            assert_eq!(fs::read(path).unwrap(), HONEST, "{output}: {context}");
        }
        assert_eq!(self.project.read("other"), "honest\nu\n", "{context}");
    }
}

/// Plants something for each case in a lab of its own, builds, and checks.
fn try_all(cases: Cases, least: usize) {
    assert!(cases.len() >= least, "only {} cases", cases.len());
    for (name, fate, plant) in cases {
        let lab = Lab::new();
        plant(&lab);
        lab.check(&name, fate);
    }
}

/// Something that is done, and what it is called.
type Named<T> = (&'static str, T);
type Change = fn(Vec<u8>) -> Vec<u8>;
type Plant = fn(&Lab, &Path);
type Cases = Vec<(String, Fate, Box<dyn Fn(&Lab)>)>;

fn case(cases: &mut Cases, name: &str, fate: Fate, plant: impl Fn(&Lab) + 'static) {
    cases.push((name.to_owned(), fate, Box::new(plant)));
}

/// A case of a payload that is almost honest.
fn payload(cases: &mut Cases, name: &str, fate: Fate, edit: impl Fn(&mut Payload) + 'static) {
    case(cases, name, fate, move |lab| {
        let mut payload = lab.payload.clone();
        edit(&mut payload);
        lab.put_payload(&payload);
    });
}

/// Adds an entry where it belongs.
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
fn entries_at_places_that_no_output_has_are_refused() {
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
fn entries_that_contradict_each_other_are_refused() {
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
    payload(all, "a link that says what is behind it", Refused, |p| {
        let mut entry = link("out/l", "a");
        if let Kind::Link { content, .. } = &mut entry.kind {
            *content = Some(raw(EVIL));
        }
        insert(p, entry);
    });
    try_all(cases, 18);
}

#[test]
fn sizes_and_contents_that_are_lies_are_refused() {
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

#[test]
fn what_stands_in_the_place_of_a_record_or_blob_is_refused() {
    use Fate::Refused;
    let mut cases = Cases::new();
    let all = &mut cases;
    let edits: [Named<fn(&mut Record)>; 10] = [
        ("another key", |r| r.key[0] ^= 1),
        ("another size of the key", |r| r.key_size += 1),
        ("another magic", |r| r.magic = b"fbresulT".to_vec()),
        ("format 0", |r| r.format = 0),
        ("the format to come", |r| r.format += 1),
        ("the last format", |r| r.format = u32::MAX),
        ("a wrong checksum", |r| r.checksum = Some([0; 32])),
        ("a length of nothing", |r| r.length = Some(0)),
        ("a length of one more", |r| {
            r.length = Some(r.payload.len() as u64 + 1)
        }),
        ("a length without end", |r| r.length = Some(u64::MAX)),
    ];
    for (name, edit) in edits {
        case(all, name, Refused, move |lab| {
            let mut record = lab.record.clone();
            edit(&mut record);
            lab.put_record(&record.bytes());
        });
    }
    let bytes: [Named<Change>; 6] = [
        ("nothing", |_| Vec::new()),
        ("one byte", |b| b[..1].to_vec()),
        ("half of it", |b| b[..b.len() / 2].to_vec()),
        ("all but the last byte", |b| b[..b.len() - 1].to_vec()),
        ("twice of it", |b| b.repeat(2)),
        ("one byte more", |b| [b, vec![0]].concat()),
    ];
    for (name, change) in bytes {
        case(all, &format!("record: {name}"), Refused, move |lab| {
            lab.put_record(&change(lab.record.bytes()));
        });
        case(all, &format!("blob: {name}"), Refused, move |lab| {
            fs::write(lab.blob_path(), change(HONEST.to_vec())).unwrap();
        });
    }
    case(all, "a blob of the same length", Refused, |lab| {
        fs::write(lab.blob_path(), b"hostile").unwrap();
    });
    case(all, "a blob without end", Refused, |lab| {
        fs::File::create(lab.blob_path())
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
    });
    case(all, "a record without end", Refused, |lab| {
        fs::File::create(lab.record_path())
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
    });
    case(all, "the record of another target", Refused, |lab| {
        let other = record_of(&lab.project, "u");
        fs::copy(other, lab.record_path()).unwrap();
    });
    for (what, path) in [
        ("record", Lab::record_path as fn(&Lab) -> PathBuf),
        ("blob", Lab::blob_path as fn(&Lab) -> PathBuf),
    ] {
        let kinds: [Named<Plant>; 7] = [
            ("a folder", |_, path| {
                fs::create_dir_all(path.join("below")).unwrap()
            }),
            ("a pipe", |_, path| make(path, FileType::Fifo)),
            ("a socket", |_, path| make(path, FileType::Socket)),
            ("a link to what it was", |lab, path| {
                symlink(lab.project.base().join("moved"), path).unwrap();
            }),
            ("a link to a device", |_, path| {
                symlink("/dev/zero", path).unwrap()
            }),
            ("a link to itself", |_, path| {
                symlink(path.file_name().unwrap(), path).unwrap()
            }),
            ("a link to nothing", |_, path| {
                symlink("nowhere", path).unwrap()
            }),
        ];
        for (name, plant) in kinds {
            case(all, &format!("{what}: {name}"), Refused, move |lab| {
                let path = path(lab);
                fs::rename(&path, lab.project.base().join("moved")).unwrap();
                plant(lab, &path);
            });
        }
    }
    try_all(cases, 40);
}

#[test]
fn links_planted_in_the_tree_and_in_the_state_lead_nowhere() {
    use Fate::{Contained, Harmless};
    let mut cases = Cases::new();
    let all = &mut cases;
    for (at, to) in [
        ("file", "precious"),
        ("file", "sub"),
        ("file", "nothing"),
        ("out", "."),
        ("out", "nothing"),
        ("gen", "."),
    ] {
        let fate = if at == "gen" { Contained } else { Harmless };
        let name = format!("`{at}` leads to the canary's `{to}`");
        case(all, &name, fate, move |lab| {
            symlink(lab.canary(to), lab.project.path(at)).unwrap();
        });
    }
    for (at, to) in [
        ("out/a", "precious"),
        ("out/sub", "sub"),
        ("gen/c.txt", "precious"),
    ] {
        let name = format!("`{at}` leads to the canary's `{to}`");
        case(all, &name, Harmless, move |lab| {
            let path = lab.project.path(at);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(lab.canary(to), path).unwrap();
        });
    }
    case(all, "a hard link to the canary", Harmless, |lab| {
        let times = lab.canary("precious");
        fs::hard_link(times, lab.project.path("file")).unwrap();
    });
    for at in [
        "lock",
        "run.lock",
        ".gitignore",
        "state",
        "index",
        "graph",
        "usage",
        "version",
        "CACHEDIR.TAG",
    ] {
        let name = format!("`.build-cache/{at}` leads to the canary");
        case(all, &name, Harmless, move |lab| {
            let path = lab.state().join(at);
            let _ = fs::remove_file(&path);
            symlink(lab.canary("precious"), path).unwrap();
        });
    }
    for at in [
        "stage",
        "tmp",
        "runs",
        "metadata",
        "incoming",
        "quarantine",
        "actions",
        "artifacts",
    ] {
        let name = format!("`.build-cache/{at}/` leads to the canary");
        case(all, &name, Contained, move |lab| {
            let path = lab.state().join(at);
            let _ = fs::remove_dir_all(&path);
            symlink(lab.canary("."), path).unwrap();
        });
    }
    case(
        all,
        "names of the stage lead to the canary",
        Harmless,
        |lab| {
            let stage = lab.state().join("stage");
            fs::create_dir_all(&stage).unwrap();
            for name in ["new-0", "new-1", "trash-0", "trash-1"] {
                symlink(lab.canary("precious"), stage.join(name)).unwrap();
            }
            symlink(lab.canary("."), stage.join("old-0-file")).unwrap();
        },
    );
    try_all(cases, 25);
}

/// Returns where the store has the record of a target.
fn record_of(project: &Project, target: &str) -> PathBuf {
    let metadata = project.read(format!(".build-cache/metadata/{target}.meta.json"));
    let is_named = |path: &PathBuf| metadata.contains(path.file_name().unwrap().to_str().unwrap());
    let objects = objects(&project.path(".build-cache"), "actions");
    objects.into_iter().find(is_named).unwrap()
}

/// The payload of `t`, as fbuild wrote it.
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

/// Makes something that is neither a file nor a folder.
fn make(path: &Path, kind: FileType) {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, kind, mode, 0).unwrap();
}

/// Returns how much of the disk everything below a folder takes.
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
