//! Bugs planted on purpose, to see whether the tests would notice them: only in a build with
//! the feature `sabotage`, and there only the one that `FBUILD_SABOTAGE` names. It does not
//! know what a bug does; that stands where the bug is, in one line.
//!
//! Each is a mistake that this program, or another of its kind, has made or could make.
//! `tests/teeth/run.py` plants one after another and shows which test caught it.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "sabotage", derive(serde::Deserialize))]
pub(crate) enum Bug {
    // What decides a result.
    /// The values of variables are not in the key.
    KeyWithoutEnv,
    /// The working directory is not in the key.
    KeyWithoutDir,
    /// The executable bit of an input is not in the key.
    KeyWithoutMode,
    /// The names of input files are not in the key, only what they hold.
    KeyWithoutPaths,
    /// What is behind a link is not in the key.
    KeyWithoutLinkedContent,
    /// What needed targets made is not in the key.
    KeyWithoutNeeds,
    /// The versions of tools are not in the key.
    KeyWithoutTools,
    /// The declared outputs are not in the key.
    KeyWithoutOutputs,
    /// The facts of a key are written without anything between them.
    KeyFieldsRunTogether,
    /// The values of secrets are in the key, and in the manifest that is stored.
    KeyWithSecrets,
    /// A target's key depends on the keys of what it needs, not on what those made.
    NoCutOff,
    /// A pattern that matches nothing is no mistake.
    EmptyPatternsPass,
    /// A target's own outputs count as its inputs.
    OwnOutputsAreInputs,
    /// Two targets may make the same file.
    SharedOutputsPass,

    // What is remembered of files.
    /// A file whose time of change is what it was is not read again.
    TrustTimesOnly,
    /// A file changed in the same tick in which it was read is not read again.
    TrustYoungStamps,
    /// A memory from before the system was started is trusted.
    TrustOtherBoots,
    /// A folder that was listed once is never listed again.
    TrustListings,
    /// A file that was looked at once in a run is not looked at again in it.
    LookOnlyOnce,
    /// The checksums of state files are not looked at.
    SealsUnchecked,

    // What cuts a run short, or leaves targets out of it.
    /// What was not there is not looked for again.
    StillWithoutAbsent,
    /// Folders are not looked at again.
    StillWithoutFolders,
    /// What links lead to is not looked at again.
    StillWithoutBehind,
    /// Of files and folders, only the time of change is compared.
    StillByTimes,
    /// What could have changed unseen is relied on.
    StillThoughShaky,
    /// The variables may be others.
    StillWithoutEnv,
    /// The tools may be others.
    StillWithoutTools,
    /// The Buildfile may be another.
    StillWithoutTexts,
    /// Another program of the same version relies on what this one found out.
    StillOfAnyProgram,
    /// Targets that are never up to date are left out.
    StillThoughUncached,
    /// What was missing before it was made counts as missing still.
    StillThoughMade,
    /// What a target makes counts as unchanged for those that do not name it.
    StillBesideWhatRan,

    // The build.
    /// Nobody looks whether inputs changed while commands ran.
    NoPostCheck,
    /// An input changed and changed back while commands ran counts as unchanged.
    PostCheckByContent,
    /// A result whose inputs changed meanwhile is remembered as the last success.
    RememberUnsound,
    /// A target is up to date whatever became of its outputs.
    OutputsUnchecked,
    /// Commands find the outputs of the last time in their way.
    NothingSetAside,
    /// After a failure the old outputs are gone.
    FailuresLoseOutputs,
    /// What a failed command left is a result.
    StoreFailed,
    /// What a cancelled command left is a result.
    StoreCancelled,
    /// A declared output that was not made is no mistake.
    MissingOutputsPass,
    /// A result is recorded although the store did not take all of it.
    RecordIncomplete,
    /// A dry run is remembered as if it had been a run.
    DryRunsRemember,
    /// Two that hold one lock run at the same time.
    LocksIgnored,
    /// Two runs in one tree at the same time.
    TreeWithoutLock,

    // The store.
    /// Records are written without waiting for their blobs.
    NoSync,
    /// Records are written first, and their blobs waited for then.
    RecordBeforeSync,
    /// A blob that is there already is not compared with what is written.
    PutWhatExists,
    /// A small blob is not verified when it is read.
    NoVerifyOnRead,
    /// A large blob is not verified when it is copied.
    NoVerifyOnCopy,
    /// A record is taken under another key than its own.
    RecordsOfAnyKey,
    /// The checksum of a record is not looked at.
    RecordsUnchecked,
    /// A record of any format is read.
    RecordsOfAnyFormat,
    /// The entries of a record are not looked at.
    EntriesUnchecked,
    /// A damaged object stays where it is.
    QuarantineNothing,
    /// A collection does not wait for builds.
    CollectWithoutLock,
    /// Builds do not keep a collection from beginning.
    BuildWithoutLock,
    /// A collection takes what a build is about to record.
    CollectYoung,
    /// A store that belongs to somebody else is used.
    TrustAnyOwner,
    /// A store that cannot be written fails the build.
    StoreTroubleFails,
    /// Trouble with the store is not told.
    SilentTrouble,

    // Outputs in the tree.
    /// Links on the way to an output are followed.
    FollowLinks,
    /// What a target does not declare is restored.
    RestoreUndeclared,
    /// A result of which the store lacks something is restored as far as it goes.
    RestoreInPart,
    /// Restored files are not executable.
    RestoreWithoutMode,
    /// Files that are not part of a result stay in its folders.
    KeepExtraOutputs,
    /// Empty folders are not part of a result.
    LoseEmptyFolders,
    /// A file that changes while it is stored is stored all the same.
    CaptureWhatChanges,
    /// A set-user-ID file is stored.
    StoreSetUid,
    /// Committed files are rewritten though they are the same.
    RewriteCommitted,
    /// What a killed run left in the stage stays there.
    StageNotCleaned,
    /// What a killed run had set aside is not put back.
    ForgetOldOutputs,

    // Commands.
    /// Commands see all variables around fbuild.
    OpenEnvironment,
    /// Temporary folders are used again with what is in them.
    SharedTemporaryFolders,
    /// The next command runs though one failed.
    RunOnAfterFailure,
    /// Timeouts are ignored.
    NoTimeout,
    /// Commands are killed without being asked to end.
    NoGrace,
    /// What outlives a command lives on while its outputs are stored.
    LeaveStrays,
    /// Processes that leave their group and lose their parent are nobody's.
    NoSubreaper,
    /// Nobody ends the commands when fbuild is killed.
    NoKeeper,
    /// A command has ended only when nobody can print for it any more.
    UnboundedDrain,
    /// Secrets are shown as they are.
    ShowSecrets,
    /// Secrets are shown in encoded forms.
    ShowEncodedSecrets,
}

/// Tells whether a bug is planted.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Tells whether a bug is planted.
#[cfg(feature = "sabotage")]
pub(crate) fn is(bug: Bug) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(planted);
    *PLANTED == Some(bug)
}

/// Returns the bug that the environment names; a name that is none must not pass for a test
/// without bugs.
#[cfg(feature = "sabotage")]
#[expect(
    clippy::disallowed_methods,
    reason = "tests choose a bug for the library as well, which has no context"
)]
fn planted() -> Option<Bug> {
    use serde::Deserialize as _;
    use serde::de::IntoDeserializer as _;
    use serde::de::value::{Error, StrDeserializer};
    let name = std::env::var("FBUILD_SABOTAGE").ok()?;
    let name: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
    let planted = Bug::deserialize(name);
    Some(planted.unwrap_or_else(|error| panic!("FBUILD_SABOTAGE: {error}")))
}
