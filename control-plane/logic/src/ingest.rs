//! How a film becomes a package: a state machine that says what to do next.
//!
//! ```text
//! Received -> Probe -> Transcode -> Package -> Verify -> BuildIndex -> Publish -> published
//!                \_________\___________\_________\____________\___________\___-> failed -> (Retried)
//! ```
//!
//! [`step`] takes the state and one event and gives the next state and the effects to carry out. Whoever carries
//! them out keeps three promises:
//! - an event is in the journal before its effects begin;
//! - each effect ends as exactly one event, [`Event::Done`] or [`Event::Failed`] with the effect's id;
//! - an effect that is carried out twice does no harm (files are made beside their place and renamed).
//!
//! Then a process may die at any moment: [`replay`] of the journal gives the same state, its
//! [`State::pending`] effect is issued again under the same id, and the package is published once. Answers to
//! an effect that is no longer awaited change nothing, so a late or repeated event does no harm either.
//!
//! What this does not do: it does not time effects out (who runs a tool bounds it), and it does not count a
//! dead process as a failed attempt: an effect that kills the process is issued again at every start.

mod event;
mod state;

use std::time::Duration;

pub use event::{Done, EffectId, Event, Failure, IndexFacts, Order, RetryPolicy};
pub use state::{FailedAt, Phase, Progress, State};

use crate::ladder::{Ladder, ladder};
use crate::lint::{Finding, Severity};

/// One thing to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its name; the event that ends it carries this id.
    pub id: EffectId,
    /// Which attempt at this job it is, from 1.
    pub attempt: u32,
    /// How long to wait before beginning.
    pub delay: Duration,
    /// What to do.
    pub job: Job,
}

/// The work of an effect. What it needs beyond this stands in [`State::order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Measure the mezzanine.
    Probe,
    /// Encode these renditions.
    Transcode {
        /// What to encode.
        ladder: Ladder,
    },
    /// Make CMAF files, playlists, captions and thumbnails of the encodings.
    Package {
        /// What was encoded.
        ladder: Ladder,
    },
    /// Gather the facts of the package and judge them with [`crate::lint::lint`].
    Verify,
    /// Rewrite the playlists, hash all segments, sign the index and store every object.
    BuildIndex,
    /// Let viewers be sent to the package.
    Publish,
}

impl Job {
    /// Which job, without what it needs.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match self {
            Self::Probe => JobKind::Probe,
            Self::Transcode { .. } => JobKind::Transcode,
            Self::Package { .. } => JobKind::Package,
            Self::Verify => JobKind::Verify,
            Self::BuildIndex => JobKind::BuildIndex,
            Self::Publish => JobKind::Publish,
        }
    }
}

/// Which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Measure the mezzanine.
    Probe,
    /// Encode the renditions.
    Transcode,
    /// Package the encodings.
    Package,
    /// Judge the package.
    Verify,
    /// Sign the index.
    BuildIndex,
    /// Let viewers be sent there.
    Publish,
}

impl JobKind {
    /// Every job, in order.
    pub const ALL: [Self; 6] =
        [Self::Probe, Self::Transcode, Self::Package, Self::Verify, Self::BuildIndex, Self::Publish];

    /// The word used in logs, reasons and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Transcode => "transcode",
            Self::Package => "package",
            Self::Verify => "verify",
            Self::BuildIndex => "build-index",
            Self::Publish => "publish",
        }
    }
}

/// An event that no promise-keeping runner sends. The journal holds something else than this ingest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Something happened to an ingest that nobody ordered.
    #[error("the first event of an ingest must be its order")]
    NotReceived,
    /// A second order that is not the first one repeated.
    #[error("the ingest was ordered already, as something else")]
    OtherOrder,
    /// An answer that does not belong to the job that was asked for.
    #[error("effect {effect} was a {asked} job, its answer is of another kind")]
    Mismatch {
        /// Which effect.
        effect: EffectId,
        /// What it was asked to do.
        asked: &'static str,
    },
}

/// What follows from an event: the next state and what to carry out now.
///
/// Events that answer no awaited effect leave the state as it is and ask for nothing.
///
/// # Errors
/// [`StepError`] for an event that cannot belong to this ingest; the state stands as it was.
pub fn step(state: &State, event: Event) -> Result<(State, Vec<Effect>), StepError> {
    let mut next = state.clone();
    let effect = match event {
        Event::Received(order) => received(&mut next, order)?,
        Event::Done { effect, done } => finished(&mut next, effect, done)?,
        Event::Failed { effect, failure } => failed(&mut next, effect, failure)?,
        Event::Retried => retried(&mut next)?,
    };
    Ok((next, effect.into_iter().collect()))
}

/// The state after these events. Its [`State::pending`] effect is to be issued again.
///
/// # Errors
/// [`StepError`] when the events are not the journal of one ingest.
pub fn replay(events: impl IntoIterator<Item = Event>) -> Result<State, StepError> {
    events.into_iter().try_fold(State::default(), |state, event| step(&state, event).map(|(next, _)| next))
}

fn received(state: &mut State, order: Order) -> Result<Option<Effect>, StepError> {
    match state.order() {
        None => {
            state.order = Some(order);
            Ok(Some(state.issue(Job::Probe)))
        }
        Some(first) if *first == order => Ok(None),
        Some(_) => Err(StepError::OtherOrder),
    }
}

fn finished(state: &mut State, effect: EffectId, done: Done) -> Result<Option<Effect>, StepError> {
    let Some(Effect { job, .. }) = awaited(state, effect)? else { return Ok(None) };
    let next = match (job, done) {
        (Job::Probe, Done::Probed(facts)) => match ladder(&facts) {
            Ok(ladder) => {
                state.facts = Some(facts);
                Job::Transcode { ladder }
            }
            Err(error) => return Ok(state.fail(Job::Probe, error.to_string())),
        },
        (Job::Transcode { ladder }, Done::Transcoded) => Job::Package { ladder },
        (Job::Package { .. }, Done::Packaged) => Job::Verify,
        (Job::Verify, Done::Verified(findings)) => {
            let errors = errors(&findings);
            state.findings = findings;
            if !errors.is_empty() {
                return Ok(state.fail(Job::Verify, errors));
            }
            Job::BuildIndex
        }
        (Job::BuildIndex, Done::Indexed(facts)) => {
            state.indexed = Some(facts);
            Job::Publish
        }
        (Job::Publish, Done::Published { at }) => {
            state.phase = Phase::Published { at };
            return Ok(None);
        }
        (job, _) => return Err(StepError::Mismatch { effect, asked: job.kind().as_str() }),
    };
    Ok(Some(state.issue(next)))
}

/// What the findings say against publishing, in one text; empty if nothing does.
fn errors(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn failed(state: &mut State, effect: EffectId, failure: Failure) -> Result<Option<Effect>, StepError> {
    let Some(Effect { job, attempt, .. }) = awaited(state, effect)? else { return Ok(None) };
    let retry = state.order().map(|order| order.retry).unwrap_or_default();
    if failure.permanent || attempt >= retry.max_attempts {
        return Ok(state.fail(job, failure.detail));
    }
    Ok(Some(state.issue_again(job, attempt + 1, retry.delay_after(attempt))))
}

/// Somebody asks for another try of a failed ingest. It begins at the beginning: what stopped it may lie in
/// what was made before, and the files of an ingest that failed days ago need not be there any more.
fn retried(state: &mut State) -> Result<Option<Effect>, StepError> {
    if state.order().is_none() {
        return Err(StepError::NotReceived);
    }
    let failed = matches!(state.phase, Phase::Failed(_));
    Ok(failed.then(|| state.issue(Job::Probe)))
}

/// The running effect, if it is the one that is being answered.
fn awaited(state: &State, id: EffectId) -> Result<Option<Effect>, StepError> {
    match &state.phase {
        Phase::Waiting => Err(StepError::NotReceived),
        Phase::Running(effect) if effect.id == id => Ok(Some(effect.clone())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
