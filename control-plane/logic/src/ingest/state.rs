//! Where an ingest stands.

use std::time::Duration;

use control_api::rest::Stage;

use super::{Effect, EffectId, IndexFacts, Job, JobKind, Order};
use crate::ladder::SourceFacts;
use crate::lint::Finding;

/// Everything an ingest knows, as its events made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub(super) order: Option<Order>,
    pub(super) facts: Option<SourceFacts>,
    pub(super) findings: Vec<Finding>,
    pub(super) indexed: Option<IndexFacts>,
    pub(super) phase: Phase,
    issued: u32,
}

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing was ordered yet.
    #[default]
    Waiting,
    /// This effect is under way, or has to be issued again.
    Running(Effect),
    /// Viewers can watch it.
    Published {
        /// Since when, in Unix seconds.
        at: u64,
    },
    /// It stopped.
    Failed(FailedAt),
}

/// Where and why an ingest stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAt {
    /// What could not be done.
    pub job: Job,
    /// Why not.
    pub detail: String,
}

/// How far an ingest is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// How much of the whole is done, 0 to 100; 100 only when published.
    pub percent: u8,
}

impl State {
    /// What was ordered; `None` before the first event.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// What was measured of the source, once it was.
    #[must_use]
    pub fn facts(&self) -> Option<&SourceFacts> {
        self.facts.as_ref()
    }

    /// What the newest lint found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What the index says, once it stands.
    #[must_use]
    pub fn indexed(&self) -> Option<&IndexFacts> {
        self.indexed.as_ref()
    }

    /// What is going on.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The effect to carry out, or to carry out again after a restart.
    #[must_use]
    pub fn pending(&self) -> Option<&Effect> {
        match &self.phase {
            Phase::Running(effect) => Some(effect),
            _ => None,
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn settled(&self) -> bool {
        matches!(self.phase, Phase::Published { .. } | Phase::Failed(_))
    }

    /// Why it failed, as one sentence for the operator.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &self.phase {
            Phase::Failed(failed) => Some(format!("{}: {}", failed.job.kind().as_str(), failed.detail)),
            _ => None,
        }
    }

    /// How far the ingest is, given how much of the running effect is done (0 to 1000).
    #[must_use]
    pub fn progress(&self, running_permille: u16) -> Progress {
        let done = running_permille.min(1000);
        match &self.phase {
            Phase::Waiting => Progress { stage: Stage::Received, percent: 0 },
            Phase::Published { .. } => Progress { stage: Stage::Published, percent: 100 },
            Phase::Failed(failed) => {
                Progress { stage: Stage::Failed, percent: percent(failed.job.kind(), 0) }
            }
            Phase::Running(effect) => {
                let kind = effect.job.kind();
                Progress { stage: stage(kind, done), percent: percent(kind, done) }
            }
        }
    }

    /// Begins a job.
    pub(super) fn issue(&mut self, job: Job) -> Effect {
        self.issue_again(job, 1, Duration::ZERO)
    }

    /// Begins another attempt at a job.
    pub(super) fn issue_again(&mut self, job: Job, attempt: u32, delay: Duration) -> Effect {
        self.issued += 1;
        let effect = Effect { id: EffectId(self.issued), attempt, delay, job };
        self.phase = Phase::Running(effect.clone());
        effect
    }

    /// Stops. Nothing follows from that, which is why it returns no effect.
    pub(super) fn fail(&mut self, job: Job, detail: String) -> Option<Effect> {
        self.phase = Phase::Failed(FailedAt { job, detail });
        None
    }
}

fn stage(running: JobKind, permille: u16) -> Stage {
    match running {
        JobKind::Probe => Stage::Received,
        JobKind::Transcode if permille == 0 => Stage::Probed,
        JobKind::Transcode => Stage::Transcoding,
        JobKind::Package => Stage::Packaging,
        JobKind::Verify | JobKind::BuildIndex => Stage::Verifying,
        JobKind::Publish => Stage::Indexed,
    }
}

/// The usual shares of the jobs in an ingest's time, in percent. Encoding is nearly all of it.
const fn share(kind: JobKind) -> u32 {
    match kind {
        JobKind::Probe | JobKind::Publish => 1,
        JobKind::Transcode => 80,
        JobKind::Package => 6,
        JobKind::Verify => 4,
        JobKind::BuildIndex => 8,
    }
}

fn percent(running: JobKind, permille: u16) -> u8 {
    let before: u32 = JobKind::ALL.into_iter().filter(|kind| *kind < running).map(share).sum();
    let percent = before + share(running) * u32::from(permille) / 1000;
    u8::try_from(percent.min(99)).unwrap_or(99)
}
