//! Tests exit status and start errors.

use super::*;

#[test]
fn exit_codes_are_reported() {
    let place = Place::new();
    for code in [0, 1, 127, 255] {
        assert_eq!(place.run(&format!("exit {code}")).code(), Some(code));
    }
}

#[test]
fn fatal_signals_are_reported() {
    let place = Place::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT, libc::SIGUSR1] {
        let End::Exited(status) = place.run(&format!("kill {signal}")).end() else {
            panic!("{signal} is not reported as the command's own end");
        };
        assert_eq!((status.signal(), status.success()), (Some(signal), false));
    }
}

#[test]
fn start_errors_explain_the_cause() {
    let place = Place::new();
    let make = |name: &str, bytes: &str, mode| {
        fs::write(place.path(name), bytes).unwrap();
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", "", 0o644);
    make("bare", "echo hello\n", 0o755);
    make("lost", "#!/no/such/interpreter\n", 0o755);
    fs::create_dir(place.path("folder")).unwrap();
    let at = |name: &str| place.path(&format!("./{name}")).display().to_string();
    let long = "x".repeat(200_000);
    let cases: [(&[&str], String, &str); 8] = [
        (
            &["no-such-tool"],
            "command `no-such-tool` not found".into(),
            "/usr/bin:/bin",
        ),
        (
            &["./gone"],
            "command `./gone` not found".into(),
            "there is no file",
        ),
        (
            &["./plain"],
            format!("`{}` is not executable", at("plain")),
            "chmod +x",
        ),
        (
            &["./folder"],
            format!("`{}` is a folder, not a program", at("folder")),
            "",
        ),
        (
            &["./bare"],
            format!("cannot start `{}`", at("bare")),
            "#!/bin/sh",
        ),
        (
            &["./lost"],
            format!("cannot start `{}`", at("lost")),
            "interpreter",
        ),
        (
            &["true", &long],
            "cannot start `/usr/bin/true`".into(),
            "too long",
        ),
        (&["true", "a\0b"], "cannot start `/usr/bin/true`".into(), ""),
    ];
    for (argv, message, help) in cases {
        let error = place.run_program(argv).result.unwrap_err();
        assert_eq!(error.to_string(), message);
        let actual = miette::Diagnostic::help(&error).map_or(String::new(), |h| h.to_string());
        assert!(actual.contains(help), "{actual}");
    }
}

#[test]
fn missing_working_directory_is_named() {
    let place = Place::new();
    let argv = ["true"].map(OsString::from);
    let program = Program {
        argv: &argv,
        env: &BTreeMap::new(),
        dir: &place.path("gone"),
        streams: Streams::Captured,
        deadline: None,
        grace: LONG,
        watchdog: None,
        tracer: None,
    };
    let error = run(&program, &mut |_| {}, &Cancel::new()).unwrap_err();
    let gone = place.path("gone").display().to_string();
    let message = format!("cannot enter the working directory `{gone}`");
    assert_eq!(error.to_string(), message);
}

#[test]
fn program_open_for_writing_is_an_error() {
    let place = Place::new();
    let program = place.path("program");
    fs::copy("/bin/true", &program).unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&program).unwrap();
    let error = place
        .run_program(&[program.to_str().unwrap()])
        .result
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot start `{}`", program.display())
    );
    drop(writer);
}

#[test]
fn just_written_program_starts() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..50 {
                    let file = place.path(&format!("{thread}-{number}"));
                    fs::write(&file, fs::read("/bin/true").unwrap()).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
                    let run = place.run_program(&[file.to_str().unwrap()]);
                    assert_eq!(run.code(), Some(0));
                }
            });
        }
    });
}
