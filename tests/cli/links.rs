//! Symbolic links among inputs: every file that a command reads through one is part of the key.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::Project;

#[test]
fn executable_bit_behind_a_link_is_in_the_key() {
    let project =
        Project::new(r#"target t { inputs "tools/*"; outputs out; run cp "tools/x" out }"#)
            .file("shared/x", "#!/bin/sh\n");
    fs::create_dir(project.path("tools")).unwrap();
    symlink("../shared/x", project.path("tools/x")).unwrap();
    project.run("run t").code(0);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("shared/x"), mode).unwrap();
    project.run("run t").code(0);
    let made = fs::metadata(project.path("out")).unwrap();
    assert_eq!(made.permissions().mode() & 0o111, 0o111);
}
