//! Checks the proposals for small projects of every kind: their text, and that they load
//! without a warning.

use std::fs;
use std::path::Path;

use super::*;
use crate::graph::Graph;

/// Writes the files into a folder and returns the proposal for it.
#[track_caller]
fn proposed(files: &[(&str, &str)]) -> Proposal {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("demo");
    fs::create_dir(&folder).unwrap();
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let proposal = propose(&folder);
    check(&folder, &proposal.text);
    proposal
}

/// Asserts that a text is a Buildfile without errors and warnings.
#[track_caller]
fn check(folder: &Path, text: &str) {
    let path = folder.join("Buildfile.kdl");
    fs::write(&path, text).unwrap();
    let loaded = crate::buildfile::load(&path, Path::new("Buildfile.kdl")).unwrap();
    let (_, mistakes) = Graph::new(loaded.buildfile);
    let messages: Vec<_> = loaded
        .diagnostics
        .iter()
        .chain(&mistakes)
        .map(|d| &d.message)
        .collect();
    assert!(messages.is_empty(), "{messages:#?}\n{text}");
    assert_eq!(crate::buildfile::format(text).unwrap(), text);
}

/// Returns the findings, one on each line.
fn lines(proposal: &Proposal) -> Vec<String> {
    let found = proposal.findings.iter();
    found
        .map(|finding| format!("{}: {}", finding.project, finding.targets.join(" ")))
        .collect()
}

/// Returns the block that begins with the line `start`.
#[track_caller]
fn block<'t>(proposal: &'t Proposal, start: &str) -> &'t str {
    let text = &proposal.text;
    let at = text
        .find(&format!("\n{start}"))
        .unwrap_or_else(|| panic!("no {start} in\n{text}"));
    let rest = &text[at + 1..];
    &rest[..rest.find("\n}\n").unwrap() + 3]
}

const PACKAGE: &str = "package main\n\nfunc main() {}\n";

#[test]
fn go_module_becomes_programs_and_tests() {
    let proposal = proposed(&[
        ("go.mod", "module example.org/x/farm/v2\n\ngo 1.24.0\n"),
        ("cmd/manager/main.go", PACKAGE),
        ("cmd/manager/main_test.go", "package main\n"),
        ("cmd/inside/lib.go", "package inside // no package main\n"),
        ("main.go", PACKAGE),
        ("gen.go", "//go:build ignore\n\npackage main\n"),
        ("vendor/x/go.mod", "module x\n"),
    ]);
    assert_eq!(
        lines(&proposal),
        ["Go module `example.org/x/farm/v2`: farm manager go-test"]
    );
    assert!(proposal.text.contains("\ntool go version=\">=1.24.0\"\n"));
    assert_eq!(
        block(&proposal, "files"),
        "files go-sources \"**\" {\n    except \"**/.*/**\" \"Buildfile.kdl\" \"bin/farm\" \"bin/manager\"\n}\n"
    );
    assert_eq!(
        block(&proposal, "target manager"),
        "target manager from=go {\n    about \"the program manager\"\n    \
         inputs files=go-sources { except \"**/*_test.go\" }\n    outputs \"bin/manager\"\n    \
         run go build -o \"bin/manager\" \"./cmd/manager\"\n}\n"
    );
    assert_eq!(
        block(&proposal, "group build"),
        "group build {\n    needs farm manager\n}\n"
    );
}

#[test]
fn go_program_needs_the_web_app_it_embeds() {
    let proposal = proposed(&[
        ("go.mod", "module x\n"),
        ("main.go", PACKAGE),
        (
            "web/embed.go",
            "package web\n\n//go:embed all:dist\nvar files embed.FS\n",
        ),
        (
            "web/package.json",
            r#"{"scripts": {"build": "vite build"}}"#,
        ),
    ]);
    assert_eq!(
        block(&proposal, "target x"),
        "target x from=go {\n    about \"the program x\"\n    needs web-build\n    \
         inputs files=go-sources { except \"**/*_test.go\" }\n    \
         inputs \"web/*.go\" \"web/dist\" \"web/dist/**\" optional=#true\n    \
         outputs \"bin/x\"\n    run go build -o \"bin/x\" .\n}\n"
    );
}

#[test]
fn cargo_workspace_becomes_one_project() {
    let proposal = proposed(&[
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\"crates/*\"]\nexclude = [\"crates/out\"]\n",
        ),
        ("Cargo.lock", ""),
        ("crates/a/Cargo.toml", "[package]\nname = \"a\"\n"),
        ("crates/a/src/main.rs", ""),
        ("crates/a/src/bin/extra.rs", ""),
        ("crates/a/src/bin/more/main.rs", ""),
        (
            "crates/b/Cargo.toml",
            "[package]\nname = \"b\"\n[[bin]]\nname = \"bee\"\npath = \"x.rs\"\n",
        ),
        ("crates/out/Cargo.toml", "[package]\nname = \"out\"\n"),
        (".cargo/config.toml", ""),
        ("target/package/Cargo.toml", "[package]\nname = \"copy\"\n"),
    ]);
    assert_eq!(
        lines(&proposal),
        [
            "Cargo package: cargo-build cargo-test",
            "Cargo package `out` in `crates/out`: crates-out-build crates-out-test"
        ]
    );
    assert_eq!(
        block(&proposal, "target cargo-build"),
        "target cargo-build from=cargo {\n    about \"the Rust programs\"\n    \
         inputs files=cargo-sources\n    inputs \".cargo/**\" optional=#true\n    \
         outputs \"target/release/a\" \"target/release/bee\" \"target/release/extra\" \"target/release/more\"\n    \
         locks cargo\n    run cargo build --release --workspace --locked\n}\n"
    );
    assert_eq!(
        block(&proposal, "files cargo-sources"),
        "files cargo-sources \"**\" {\n    \
         except \"**/.*/**\" \"Buildfile.kdl\" \"target/**\" \"crates/out/**\"\n}\n"
    );
}

#[test]
fn lock_file_chooses_the_package_manager() {
    let install = |files: &[(&str, &str)]| {
        let package = ("package.json", r#"{"scripts": {"build": "webpack"}}"#);
        let proposal = proposed(&[&[package], files].concat());
        let install = proposal
            .text
            .lines()
            .find(|line| line.contains("install") || line.contains(" ci "));
        install.unwrap().trim().to_owned()
    };
    assert_eq!(
        install(&[("package-lock.json", "{}")]),
        "run npm ci --no-audit --no-fund"
    );
    assert_eq!(
        install(&[("yarn.lock", "")]),
        "run yarn install --frozen-lockfile"
    );
    assert_eq!(
        install(&[("yarn.lock", ""), (".yarnrc.yml", "")]),
        "run yarn install --immutable"
    );
    assert_eq!(
        install(&[("pnpm-lock.yaml", "")]),
        "run pnpm install --frozen-lockfile"
    );
    assert_eq!(
        install(&[]),
        "// Without a lock file, the same sources may give another result; `npm install` writes one."
    );
}

#[test]
fn scripts_of_a_package_share_a_lock() {
    let proposal = proposed(&[
        (
            "app/package.json",
            r#"{"name": "@a/b", "scripts": {"build": "tsc -p .", "test": "vitest"}, "engines": {"node": ">=20"}}"#,
        ),
        ("app/package-lock.json", "{}"),
        (
            "app/tsconfig.json",
            "{ // comments\n \"compilerOptions\": {\"outDir\": \"./lib/js\"} }",
        ),
        (
            "app/node_modules/x/package.json",
            r#"{"scripts": {"build": "x"}}"#,
        ),
        (
            "docs/package.json",
            r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#,
        ),
        ("broken/package.json", "{"),
    ]);
    assert_eq!(
        lines(&proposal),
        [
            "npm package `@a/b` in `app`: app-build app-test",
            "npm package in `docs`: "
        ]
    );
    assert!(
        proposal
            .text
            .contains("\ntool node version=\">=20\"\ntool npm\n")
    );
    assert_eq!(
        block(&proposal, "target app-build"),
        "target app-build from=npm {\n    about \"runs the build script\"\n    \
         inputs files=app-sources\n    outputs \"app/lib/js/\"\n    dir \"app\"\n    locks app\n    \
         run npm ci --no-audit --no-fund\n    run npm run build\n}\n"
    );
}

#[test]
fn npm_workspace_is_installed_and_built_as_one() {
    let proposal = proposed(&[
        ("package.json", r#"{"workspaces": ["packages/*"]}"#),
        ("package-lock.json", "{}"),
        (
            "packages/a/package.json",
            r#"{"scripts": {"build": "next build"}}"#,
        ),
        (
            "packages/b/package.json",
            r#"{"scripts": {"build": "rollup -c"}}"#,
        ),
        ("packages/c/package.json", "{}"),
    ]);
    assert_eq!(lines(&proposal), ["npm package: npm-build"]);
    let target = block(&proposal, "target npm-build");
    assert!(
        target.contains("    outputs \"packages/a/.next/\" \"packages/b/dist/\"\n"),
        "{target}"
    );
    assert!(
        target.contains("    run npm run build --workspaces --if-present\n"),
        "{target}"
    );
}

#[test]
fn python_tests_run_in_their_own_environment() {
    let proposal = proposed(&[
        (
            "pyproject.toml",
            "[project]\nname = \"p\"\nrequires-python = \">=3.9\"\n[build-system]\n",
        ),
        ("uv.lock", ""),
        ("tests/test_a.py", ""),
        ("old/requirements.txt", "pytest\n"),
        ("old/test_x.py", ""),
    ]);
    assert_eq!(
        lines(&proposal),
        [
            "Python project `p`: uv-build uv-test",
            "Python project in `old`: old-test"
        ]
    );
    assert_eq!(
        block(&proposal, "target uv-build"),
        "target uv-build from=uv {\n    about \"the wheel\"\n    inputs files=uv-sources\n    \
         outputs \"dist/\"\n    locks uv\n    run uv build --wheel --out-dir dist\n}\n"
    );
    assert_eq!(
        block(&proposal, "target uv-test"),
        "target uv-test from=uv {\n    about \"the Python tests\"\n    inputs files=uv-sources\n    \
         locks uv\n    sh #\"\"\"\n        export UV_PROJECT_ENVIRONMENT=\"$TMPDIR/venv\"\n        \
         uv sync --locked\n        \"$TMPDIR/venv/bin/python\" -m unittest discover\n        \"\"\"#\n}\n"
    );
    assert_eq!(
        block(&proposal, "target old-test"),
        "target old-test from=python {\n    about \"the Python tests\"\n    inputs files=old-sources\n    \
         dir \"old\"\n    sh #\"\"\"\n        python3 -m venv \"$TMPDIR/venv\"\n        \
         \"$TMPDIR/venv/bin/pip\" install --quiet -r requirements.txt\n        \
         \"$TMPDIR/venv/bin/python\" -m pytest -p no:cacheprovider\n        \"\"\"#\n}\n"
    );
}

#[test]
fn projects_in_one_folder_exclude_each_other() {
    let proposal = proposed(&[
        ("go.mod", "module build\n"),
        ("main.go", PACKAGE),
        ("Cargo.toml", "[package]\nname = \"test\"\n"),
        ("src/main.rs", ""),
        (
            "package.json",
            r#"{"scripts": {"build": "x", "test": "y"}}"#,
        ),
        ("pyproject.toml", "[build-system]\n"),
        ("test_a.py", ""),
        ("sub/package.json", r#"{"scripts": {"build": "x"}}"#),
        ("sub/pyproject.toml", "[build-system]\n"),
    ]);
    let names: Vec<_> = proposal
        .findings
        .iter()
        .flat_map(|found| found.targets.clone())
        .collect();
    assert_eq!(
        names,
        [
            "go-build",
            "cargo-build",
            "cargo-test",
            "npm-build",
            "npm-test",
            "python-build",
            "python-test",
            "sub-build",
            "sub-python-build"
        ]
    );
}

#[test]
fn empty_folder_gets_a_working_example() {
    let proposal = proposed(&[
        ("README", "x"),
        ("we[ird/go.mod", "module x\n"),
        (".x/go.mod", ""),
    ]);
    assert!(proposal.findings.is_empty());
    assert!(proposal.text.starts_with(
        "// The targets of this project. `fbuild init` wrote them from the manifests that it\n\
         // found. Edit them as needed; `fbuild check` finds mistakes.\n//\n\
         //     fbuild run              prints hello\n\
         //     fbuild list             lists all targets\n\
         //     fbuild explain hello    shows the inputs of a target and their changes\n\n\
         project demo {\n    default hello"
    ));
}

#[test]
fn hostile_names_are_escaped() {
    let hostile = "\u{1b}[2J{x}\\\"\n";
    let json = serde_json::json!({"name": hostile, "scripts": {"build": hostile}, "engines": {"node": hostile}});
    let module = format!("module {}\n", hostile.replace('\n', ""));
    proposed(&[
        ("package.json", &json.to_string()),
        ("go.mod", &module),
        ("main.go", PACKAGE),
        (
            "Cargo.toml",
            &format!("[package]\nname = \"{}\"\n", "{x}\u{1b}"),
        ),
        ("src/main.rs", ""),
    ]);
}
