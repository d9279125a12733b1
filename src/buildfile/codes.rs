//! The code of every diagnostic of the language, each with an explanation for
//! `docs/errors.md`.

macro_rules! codes {
    ($($($name:ident)? $code:literal $text:literal)*) => {
        $($(
            #[doc = concat!("`", $code, "`")]
            pub(super) const $name: &str = $code;
        )?)*
        /// Every code of this module, with its explanation.
        pub const CODES: &[(&str, &str)] = &[$(($code, $text)),*];
    };
}

codes! {
    "fbuild::buildfile::file_missing"
    "There is no Buildfile at the path. `fbuild init` writes a first one; `-f FILE` names another file and `-C DIR` another folder."

    "fbuild::buildfile::file_folder"
    "The path of the Buildfile is a folder, or something else that is not a file. Name the file inside it: `fbuild -f path/to/Buildfile.kdl run`."

    "fbuild::buildfile::file_unreadable"
    "The system does not let fbuild read the Buildfile. Look at its permissions and its owner with `ls -l`."

    "fbuild::buildfile::file_too_large"
    "The Buildfile is larger than 8 MiB. Perhaps `-f` names another file. Generated Buildfiles can be split with `include`."

    "fbuild::buildfile::file_encoding"
    "The Buildfile is not UTF-8 text. The message has the line and the byte. Save it as UTF-8 in your editor; `iconv -t UTF-8` converts it."

    "fbuild::buildfile::add_broken"
    "`fbuild add` does not change a Buildfile that is not KDL, because it cannot find the place for the new target. `fbuild check` shows what is wrong."

    "fbuild::buildfile::add_exists"
    "`fbuild add` was asked for a target whose name another target or group has. Choose another name, or edit the existing one."

    "fbuild::buildfile::add_wrong"
    "The target that `fbuild add` was asked for would have a mistake: a name with a wrong character, a path outside the root, a tool that is not declared. Nothing was written."

    CHARACTER "fbuild::buildfile::character"
    "The text has an invisible character that can change how the text looks: a control character, or a mark that turns the writing direction. KDL forbids them outside escapes; in a quoted string, write `\\u{202E}`."

    NESTING "fbuild::buildfile::nesting"
    "Blocks or comments are nested more than 64 deep, or there are more than 65,536 nodes in one block or values in one node. A Buildfile needs three levels; most likely a `}` or `*/` is missing."

    SYNTAX "fbuild::buildfile::syntax"
    "The text is not KDL 2. The usual mistakes: a path or pattern without quotes (`./cmd` must be `\"./cmd\"`), `true` instead of `#true`, a value like `10m` without quotes, a string or block that is never closed, a `{` on a line of its own."

    EMPTY "fbuild::buildfile::empty"
    "The Buildfile declares no target and no group, so there is nothing to build. The smallest useful one is `target hello { sh \"echo hello\" }`."

    UNKNOWN_NODE "fbuild::buildfile::unknown_node"
    "A node has a name that the language does not know. The help names the nearest one. The reference in `docs/buildfile.md` lists them all."

    MISPLACED "fbuild::buildfile::misplaced"
    "A node has no meaning in its place, but has one elsewhere: `inputs` outside a target, or `project` in an included file. The help names the right place."

    UNKNOWN_PROPERTY "fbuild::buildfile::unknown_property"
    "A node has a property (`NAME=value`) that it does not know. In `run`, an argument such as `--flag=value` must be quoted: `run tool \"--flag=value\"`."

    REPEATED "fbuild::buildfile::repeated"
    "A single value is given twice: a node such as `timeout` twice in a target, or a property twice in a node. Keep one."

    MISSING "fbuild::buildfile::missing"
    "A node lacks a required argument or property, such as the name of a `target`. The help shows an example."

    UNEXPECTED "fbuild::buildfile::unexpected"
    "A node has an argument or a block too many, such as a second name of a `target`. The help shows an example of what it takes."

    TYPE "fbuild::buildfile::type"
    "A value has the wrong type: a number in the place of text, or text in the place of `#true` or `#false`."

    RANGE "fbuild::buildfile::range"
    "A number is too small or too large, such as `jobs 0`."

    DURATION "fbuild::buildfile::duration"
    "A duration cannot be read. Write numbers with units: `timeout \"10m\"`, `\"1h30m\"`, `\"500ms\"`, `\"30d\"`."

    DATE "fbuild::buildfile::date"
    "A day cannot be read, or the calendar does not have it. Write year, month and day: `quarantine until=\"2026-12-31\"`."

    SIZE "fbuild::buildfile::size"
    "A size cannot be read. Write a number with its unit: `cache max-size=\"2 GiB\"`, `\"500 MB\"`, `\"1.5 GiB\"`."

    VERSION "fbuild::buildfile::version"
    "A version requirement cannot be read. Write comparisons with commas between them: `tool go version=\">=1.21\"`, `\">=1.21, <2\"`, `\"1.26\"`."

    REMOTE "fbuild::buildfile::remote"
    "The `remote` node cannot be used as it is: its URL has a scheme that fbuild does not know, its mode is none of `off`, `read`, `write` and `read-write`, or it reads results without naming a key whose signatures are trusted. `fbuild remote key` makes a pair of keys: the public one belongs into `sign trust=\"ed25519:…\"`, the private one into the environment variable that `sign key-env=` names."

    TRACE "fbuild::buildfile::trace"
    "The mode of `trace` is none of `off`, `warn` and `deny`. `warn` reports files and programs that the commands use and the target does not declare; `deny` fails the target."

    NAME "fbuild::buildfile::name"
    "A name has characters that names cannot have. Names of targets and the like are letters, digits and `-_.:+/@`, at most 200 of them, and start with a letter, a digit, `_` or `@`. Names of environment variables and of `var` are letters, digits and `_` (in `var` also `-`), and do not start with a digit."

    DUPLICATE "fbuild::buildfile::duplicate"
    "Two nodes of one kind have the same name. Targets and groups share their names. Rename one of them."

    UNKNOWN_NAME "fbuild::buildfile::unknown_name"
    "The name of a template, a set of files or a tool is not declared anywhere. The help names the nearest one, or the line that declares it."

    CYCLE "fbuild::buildfile::cycle"
    "Templates, variables or environment variables refer to each other in a circle: `var a \"{b}\"` and `var b \"{a}\"`. Every hop is labelled; break the circle at one of them."

    VARIABLE "fbuild::buildfile::variable"
    "`{NAME}` in a string stands for the value of `var NAME`, and there is none. Declare it, or write `{{NAME}}` for the text `{NAME}` itself."

    FOR "fbuild::buildfile::for"
    "A `for` cannot be used: it has no values, or a value twice, or no file matches; two values give two targets the same name, because the name has no `{NAME}` in it; it makes more than 100,000 targets; or an `except` in it names no value. `target \"test-{pkg}\" { for pkg api worker; run go test \"./{pkg}/...\" }` makes two targets."

    PARAMETER "fbuild::buildfile::parameter"
    "A target gives its template a parameter that the template does not have, or leaves out one without a default. A template declares them with `param NAME` or `param NAME default=\"…\"`, and a target gives them behind `from=`: `target worker from=go-binary cmd=worker`."

    ARGS_PLACE "fbuild::buildfile::args_place"
    "`{args}` stands for the arguments that `fbuild run TARGET -- …` gives to a target. It is allowed in `run`, as an argument of its own after the program: `run go test \"{args}\"`. A script of `sh` has them in `\"$@\"`. No `var` can have the name `args`."

    ENV_PLACE "fbuild::buildfile::env_place"
    "`{env.NAME}` is in a place where environment variables have no meaning. It is allowed in `run` and in the values of `env`: a result must not depend on them in any other way."

    ENV_UNDECLARED "fbuild::buildfile::env_undeclared"
    "A command uses `{env.NAME}`, but its target does not declare the variable with `env NAME`. Only declared variables are part of the key, so only they can be pasted into commands. Variables of `pass` and `secret` reach a command only through its environment."

    ENV_TWICE "fbuild::buildfile::env_twice"
    "A target declares a variable twice, or in two ways: with `env` and with `pass` or `secret`. Keep one; it decides whether the value is part of the key."

    EXPANSION "fbuild::buildfile::expansion"
    "Variables, templates and sets of files expand to more than the limit: 64 MiB of text or four million items. This happens only when they are nested to grow without bound."

    INCLUDE "fbuild::buildfile::include"
    "A file named by `include` cannot be read, is outside the project's root, is included twice, or includes itself. Its path is relative to the file that includes it."

    PATH "fbuild::buildfile::path"
    "A path leaves the project's root, is absolute, or cannot be a path. Everything that a target reads and writes must be below the root; if something is not, move the root up."

    PATTERN "fbuild::buildfile::pattern"
    "A pattern cannot be read. `*` is any name, `**` any number of folders, alone between slashes, `?` is one character, `[a-z]` a class, `{a,b}` alternatives."

    INPUT "fbuild::buildfile::input"
    "An input is in `.git`, or in the folder where fbuild keeps its state. Both change on their own, so they are never inputs. To build again for each commit, pass the commit in a variable: `env COMMIT`, and `COMMIT=$(git rev-parse HEAD) fbuild run`."

    LOOKALIKE "fbuild::buildfile::lookalike"
    "A pattern means something else than it seems to. `!pattern` is the name of a file; exceptions are written in the block: `inputs \"src/**\" { except \"src/x.ts\" }`. `[id]` is one of the characters `i` and `d`; a folder of that name is `\\[id\\]`, as in `inputs #\"app/\\[id\\]/page.tsx\"#`. `~` in the cache's `dir` is a name like any other, because no shell reads it."

    OUTPUT "fbuild::buildfile::output"
    "An output would replace files that are not the target's: the root itself, the Buildfile, something in `.git` or `.build-cache`, or the folder of the cache. Name a file or a folder below the root."

    KEEP "fbuild::buildfile::keep"
    "`keep` names files in an owned folder that are not the target's, and there is no owned folder on this `outputs` line. A folder is owned when its path ends with a slash: `outputs \"web/static/\" { keep emptyfile }`."

    NOTHING "fbuild::buildfile::nothing"
    "A target has nothing to do: no `run`, no `sh` and no `needs`. A name for several targets is a `group`."

    COMMAND "fbuild::buildfile::command"
    "A command is empty, a target declares outputs but no command that could make them, or `run` is given a command of the shell such as `cd`, which has no effect on the commands after it."

    NEAR_MISS "fbuild::buildfile::near_miss"
    "A variable is one typo away from one that common tools read, such as `CGOENABLED` for `CGO_ENABLED`. If the name is right, ignore the warning."

    SH_BRACES "fbuild::buildfile::sh_braces"
    "A script of `sh` has `{NAME}` in it, and `NAME` is a variable of the Buildfile. Nothing is pasted into scripts, because quoting could not be right. Pass the value as an environment variable: `env VERSION=\"{version}\"`, and `\"$VERSION\"` in the script."
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_unique_and_in_this_module() {
        let mut codes: Vec<_> = CODES.iter().map(|(code, _)| *code).collect();
        assert!(codes.iter().all(|c| c.starts_with("fbuild::buildfile::")));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
    }
}
