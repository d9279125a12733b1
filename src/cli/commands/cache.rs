//! `fbuild cache`: shows, verifies and shrinks the cache.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::buildfile::quantity;
use crate::cli::args::Cache;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::report::text::{self, count, number, size};
use crate::session::{Access, Session, Start, store_folder};
use crate::store::disk::{CollectionSummary, Limits, Usage, Verification, WhenBusy};
use crate::store::{self, Disk, Store as _};

pub(in crate::cli) fn run(context: &Context, args: &Cache) -> Result<(), Failure> {
    match args {
        Cache::Status => status(context),
        Cache::Trust => trust(context),
        Cache::Verify { repair } => verify(context, *repair),
        Cache::Gc { max_size, max_age } => {
            collect(context, max_size.as_deref(), max_age.as_deref())
        }
        Cache::Clear => clear(context),
    }
}

fn status(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Read, Start::with_mistakes())?;
    let folder = store_folder(&session.workspace);
    let usage = session
        .disk
        .as_ref()
        .map_or(Ok(Usage::default()), Disk::usage)
        .map_err(store_failure)?;
    let graph = &session.workspace.graph;
    let cached = graph
        .ids()
        .filter(|id| is_cached(&session, graph.name(*id)))
        .count();
    let bytes = number(usize::try_from(usage.bytes).unwrap_or(usize::MAX));
    let text = format!(
        "Build Cache Status\n  \
         folder      {}\n  \
         targets     {} of {} cached\n  \
         results     {}, made of {}\n  \
         size        {} ({bytes} bytes)\n  \
         limits      {}\n  \
         quarantine  {}\n",
        context.shown(&folder).display(),
        number(cached),
        number(graph.len()),
        number(usage.results),
        count(usage.blobs, "blob"),
        size(usage.bytes),
        describe_limits(session.limits()),
        quarantine(&folder),
    );
    print_warnings(context, &mut session);
    context.print(text.as_bytes())
}

/// Returns true if the last success of a target is in the cache.
fn is_cached(session: &Session<'_>, target: &str) -> bool {
    let (Some(disk), Some(last)) = (&session.disk, session.memory.success(target)) else {
        return false;
    };
    let result = disk.result(last.key).ok().flatten();
    let missing = result.map(|result| disk.missing(&result.blobs()));
    matches!(missing, Some(Ok(missing)) if missing.is_empty())
}

fn describe_limits(limits: Limits) -> String {
    let max_size = limits
        .max_size
        .map(|bytes| format!("at most {}", size(bytes)));
    let max_age = limits
        .max_age
        .map(|age| format!("nothing unused for {}", days(age)));
    let both: Vec<String> = max_size.into_iter().chain(max_age).collect();
    if both.is_empty() {
        "none; `cache max-size=\"2 GiB\"` in the Buildfile sets one".to_owned()
    } else {
        both.join(", ")
    }
}

/// Formats a time in days if it is a whole number of days.
fn days(time: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match (
        time.as_secs() / DAY,
        time.as_secs() % DAY,
        time.subsec_nanos(),
    ) {
        (days @ 1.., 0, 0) => count(usize::try_from(days).unwrap_or(usize::MAX), "day"),
        _ => text::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Words the number and size of quarantined files.
fn quarantine(store: &Path) -> String {
    let listed = std::fs::read_dir(store.join("quarantine"));
    let files = listed.into_iter().flatten().flatten();
    let sizes: Vec<u64> = files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .collect();
    match sizes.len() {
        0 => "empty".to_owned(),
        n => format!(
            "{} ({}), removed after a week",
            count(n, "damaged file"),
            size(sizes.iter().sum())
        ),
    }
}

/// Seals the results of other users with the key of this one.
fn trust(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Write, Start::with_mistakes())?;
    let trusted = session.disk.as_ref().map(Disk::trust);
    print_warnings(context, &mut session);
    let accepted = trusted
        .transpose()
        .map_err(store_failure)?
        .unwrap_or_default();
    session.close();
    let text = match accepted {
        0 => "accepted no results\n".to_owned(),
        n => format!("accepted {}\n", count(n, "result")),
    };
    context.print(text.as_bytes())
}

fn verify(context: &Context, repair: bool) -> Result<(), Failure> {
    let access = if repair { Access::Write } else { Access::Read };
    let host = context.host()?;
    let mut session = Session::open(&host, access, Start::with_mistakes())?;
    let verified = session.disk.as_ref().map(|disk| disk.verify(repair));
    print_warnings(context, &mut session);
    let Some(found) = verified.transpose().map_err(store_failure)? else {
        return context.print(b"nothing is cached\n");
    };
    let done = context.print(verdict(&found, repair).as_bytes());
    let is_sound = found.damaged.len() == found.repaired;
    session.close_at_exit();
    if is_sound {
        done
    } else {
        done.and(Err(Failure::silent(Exit::Target)))
    }
}

fn verdict(found: &Verification, repair: bool) -> String {
    let line =
        |damaged: &store::disk::DamagedObject| format!("`{}`: {}\n", damaged.path, damaged.damage);
    let mut text: String = found.damaged.iter().map(line).collect();
    text += &format!("read {}: ", amount(&found.read));
    let damaged = found.damaged.len();
    text += &match (damaged, repair) {
        (0, _) => "no damage found\n".to_owned(),
        (n, false) => format!(
            "{} damaged; `fbuild cache verify --repair` moves them to quarantine\n",
            number(n)
        ),
        (n, true) if found.repaired == n => {
            format!(
                "{} damaged and moved to quarantine; the next run builds them again\n",
                number(n)
            )
        }
        (n, true) => format!(
            "{} damaged, {} of them moved to quarantine\n",
            number(n),
            number(found.repaired)
        ),
    };
    text
}

fn collect(
    context: &Context,
    max_size: Option<&str>,
    max_age: Option<&str>,
) -> Result<(), Failure> {
    let max_size = max_size.map(quantity::size).transpose();
    let max_size =
        max_size.map_err(|error| unreadable("--max-size", &error, quantity::SIZE_HELP))?;
    let max_age = max_age.map(quantity::duration).transpose();
    let max_age =
        max_age.map_err(|error| unreadable("--max-age", &error, quantity::DURATION_HELP))?;
    let host = context.host()?;
    let session = Session::open(&host, Access::Write, Start::with_mistakes())?;
    let limits = Limits {
        max_size: max_size.or(session.limits().max_size),
        max_age: max_age.or(session.limits().max_age),
    };
    let live: HashSet<_> = session.memory.keys().collect();
    remove(context, session, |disk| {
        disk.collect(&limits, &live, WhenBusy::Wait)
    })
}

fn clear(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Write, Start::with_mistakes())?;
    remove(context, session, Disk::clear)
}

/// Shrinks the cache once no other run uses it, and prints the result.
fn remove(
    context: &Context,
    mut session: Session<'_>,
    work: impl FnOnce(&Disk) -> Result<Option<CollectionSummary>, store::Error>,
) -> Result<(), Failure> {
    if session.disk.as_ref().is_some_and(Disk::is_used_by_others) {
        context.eprint("waiting for other runs that use the cache\n");
    }
    let done = session.disk.as_ref().map(work);
    print_warnings(context, &mut session);
    let Some(done) = done.transpose().map_err(store_failure)? else {
        return context.print(b"nothing is cached\n");
    };
    let Some(CollectionSummary { removed, left }) = done else {
        let folder = store_folder(&session.workspace);
        let folder = context.shown(&folder);
        return Err(Failure::in_the_way(format!(
            "cannot change the cache in `{}`",
            folder.display()
        )));
    };
    session.close_at_exit();
    let text = match removed == Usage::default() {
        true if left == Usage::default() => "nothing is cached\n".to_owned(),
        true => format!("nothing to remove; {} are kept\n", amount(&left)),
        false => format!("removed {}; {} are left\n", amount(&removed), amount(&left)),
    };
    context.print(text.as_bytes())
}

fn amount(usage: &Usage) -> String {
    let (results, blobs) = (count(usage.results, "result"), count(usage.blobs, "blob"));
    format!("{results} and {blobs} ({})", size(usage.bytes))
}

fn unreadable(option: &str, error: &quantity::Error, help: &str) -> Failure {
    Failure::usage_with_help(format!("`{option}`: {error}"), help)
}

fn store_failure(error: store::Error) -> Failure {
    Failure::of(Exit::World, &error)
}

/// Prints the pending warnings about the state and store folders.
fn print_warnings(context: &Context, session: &mut Session<'_>) {
    for warning in session.take_warnings() {
        context.warn(&warning);
    }
}
