//! Objects that are not files, and planted links.

use fbuild::digest::Key;

use super::*;

#[test]
fn objects_that_are_not_files_are_refused() {
    use Fate::Refused;
    let mut cases = Cases::new();
    let all = &mut cases;
    let edits: [Named<fn(&mut Record)>; 13] = [
        ("another key", |r| r.key[0] ^= 1),
        ("another size of the key", |r| r.key_size += 1),
        ("another magic", |r| r.magic = b"fbresulT".to_vec()),
        ("format 0", |r| r.format = 0),
        ("the format to come", |r| r.format += 1),
        ("the last format", |r| r.format = u32::MAX),
        ("a wrong checksum", |r| r.checksum = Some([0; 32])),
        ("the seal of another user", |r| r.user = Key::new([7; 32])),
        ("no seal", |r| r.seal = Some([0; 32])),
        ("a seal with one bit flipped", |r| {
            let mut honest = r.user.mac(&[&sealed(r)]);
            honest[31] ^= 1;
            r.seal = Some(honest);
        }),
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
            ("a link to the original", |lab, path| {
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
fn planted_links_are_not_followed() {
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
        // A link in the place of a folder is nothing that fbuild made.
        let fate = if at == "file" { Harmless } else { Contained };
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
        case(all, &name, Contained, move |lab| {
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
