//! Writes the events of a run as a file of JSON lines, and keeps the files of the last runs. A
//! run in which all targets were up to date has none.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::event::{Event, EventKind, Outcome};

/// How many files are kept.
const MOST_RUNS: usize = 100;

/// The log of the current run.
pub struct RunLog {
    folder: PathBuf,
    name: String,
    /// The first event, written together with the second that matters.
    started: Option<Event>,
    file: Option<BufWriter<File>>,
}

impl RunLog {
    /// Prepares the log of a run that starts now. Its file in `folder` is made when needed.
    pub fn new(folder: &Path) -> Self {
        let now = crate::stamp::now() / 1_000_000;
        Self {
            folder: folder.to_owned(),
            name: format!("{now:015}-{}.jsonl", std::process::id()),
            started: None,
            file: None,
        }
    }

    /// Records an event.
    pub fn record(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::RunStarted { .. } => {
                self.started = Some(event.clone());
                Ok(())
            }
            EventKind::TargetOutput { .. } => Ok(()),
            EventKind::TargetFinished { outcome, .. } if is_quiet(outcome) => Ok(()),
            EventKind::RunFinished(_) if self.file.is_none() => Ok(()),
            EventKind::RunFinished(_) => self.write(event).and_then(|()| self.close()),
            EventKind::TargetFinished {
                outcome: Outcome::Failed { failure },
                ..
            } if !failure.cases.is_empty() => self.write(&without_cases(event)),
            _ => self.write(event),
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.file.is_none() {
            let file = File::create_new(self.folder.join(&self.name))?;
            self.file = Some(BufWriter::new(file));
        }
        let started = self.started.take();
        if let Some(file) = &mut self.file {
            for event in started.iter().chain([event]) {
                serde_json::to_writer(&mut *file, event)?;
                file.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.flush()?;
        }
        let mut names: Vec<PathBuf> = std::fs::read_dir(&self.folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort_unstable();
        for old in names.iter().rev().skip(MOST_RUNS) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// Returns the event of a failed test without its cases, of which there may be thousands.
fn without_cases(event: &Event) -> Event {
    let mut event = event.clone();
    if let EventKind::TargetFinished {
        outcome: Outcome::Failed { failure },
        ..
    } = &mut event.kind
    {
        failure.cases.clear();
    }
    event
}

fn is_quiet(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::UpToDate | Outcome::WouldRun | Outcome::WouldRestore
    )
}
