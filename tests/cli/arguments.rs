//! `fbuild run TARGET -- ARGS`: arguments for the commands of one target.

use super::project::Project;

/// Returns a project with a target that takes arguments, one that needs it, and one that
/// takes none.
fn project() -> Project {
    Project::new(
        r##"
        target say {
            inputs in.txt
            run echo run "{args}" end
            sh #"for arg in "$@"; do echo "<$arg>"; done"#
        }
        target write {
            outputs out.txt
            sh #"echo "${*:-none}" > out.txt"#
        }
        target after {
            needs say
            inputs other.txt
            sh "echo after"
        }
        target plain {
            sh "echo plain"
        }
        "##,
    )
    .file("in.txt", "in\n")
    .file("other.txt", "other\n")
}

#[test]
fn arguments_reach_every_command() {
    let project = project();
    let words = ["run", "say", "--", "-a", "two words", "", "--quiet"];
    project.fbuild_args(words).end().ok("
        Building 1 target
        [1/1] Starting say: it was given arguments
        output of say:
        run -a two words  --quiet end
        <-a>
        <two words>
        <>
        <--quiet>
        [1/1] Completed say ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
    let run = project.run("run say").code(0);
    assert!(
        run.stdout.contains("output of say:\nrun end\n["),
        "{}",
        run.stdout
    );
}

#[test]
fn same_arguments_are_answered_from_the_cache() {
    let project = project();
    project.run("run -q say -- a").ok("");
    project.run("run say -- a").ok("
        Building 1 target
        output of say:
        run a end
        <a>
        [1/1] Restored say from the cache: it was given arguments (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    let other = project.run("run say -- b").code(0);
    assert!(other.stdout.contains("<b>"), "{}", other.stdout);
}

#[test]
fn snapshot_does_not_answer_arguments() {
    let project = project();
    project.run("run -q write").ok("");
    project.run("run -q write -- some").ok("");
    assert_eq!(project.read("out.txt"), "some\n");
}

#[test]
fn run_with_arguments_is_not_the_last_success() {
    let project = project();
    project.run("run -q say after").ok("");
    project.run("run -q say -- a").ok("");
    project
        .run("run say after")
        .ok("nothing to do: 2 targets up to date ([time])\n");
    project.write("other.txt", "changed\n");
    project.run("run -q after").ok("");
    project.run("status after").ok("
        [1/2] Up to date: say
        [2/2] Up to date: after
        nothing to do: 2 targets up to date ([time])
        ");
}

#[test]
fn outputs_without_arguments_come_back() {
    let project = project();
    project.run("run -q write").ok("");
    assert_eq!(project.read("out.txt"), "none\n");
    project.run("run -q write -- some").ok("");
    assert_eq!(project.read("out.txt"), "some\n");
    project.run("run write").ok("
        Building 1 target; everything takes about [time]
        [1/1] Restored write from the cache: its output `out.txt` was modified (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    assert_eq!(project.read("out.txt"), "none\n");
    assert!(!project.has(".build-cache/trash/out.txt"));
}

#[test]
fn target_without_a_place_refuses_arguments() {
    project().run("run plain -- a").ended(
        2,
        "",
        "
        error[fbuild::graph::arguments]: `plain` takes no arguments
          help: write \"{args}\" as an argument of its `run`, or \"$@\" in the script of its `sh`
        ",
    );
}

#[test]
fn several_targets_refuse_arguments() {
    project().run("run plain say -- a").ended(
        2,
        "",
        "
        error[fbuild::graph::arguments]: arguments after `--` are for one target, and 2 are named
          help: name it, as in `fbuild run say -- …`
        ",
    );
}
