//! What a node gives up when there is more to do than it can do, and in which order.
//!
//! Three parts: the [`governor`] turns what is measured into a level, a pure function of values; [`sessions`]
//! remembers who is being served; [`Overload`] puts the two together and judges each request. The order is
//! that of [`Level`]: first what no viewer notices, then new sessions, and only at the very end anything of a
//! session that is under way. Responses that have begun are never cut for it.
//!
//! Nothing here can stay overloaded by itself: levels are made anew from what is measured ten times a second,
//! refusals cost no signature check and no look into the cache, and whoever is refused hears when to come
//! back, each at another moment.

mod governor;
mod places;
mod sessions;
mod watch;

use std::sync::Arc;

use control_api::SessionId;
use engine::{Level, Load};
use media::Digest;
use tokio::time::Instant;

pub(crate) use self::places::Place;
use self::places::Places;
use self::sessions::Sessions;
pub(crate) use self::watch::{Gauges, watch};
use crate::config::OverloadConfig;

/// How long after a takeover everybody counts as known: the sessions of the process before this one.
const LEARNING: std::time::Duration = std::time::Duration::from_secs(30);

/// The state of this node, as requests see it.
pub(crate) struct Overload {
    config: OverloadConfig,
    load: Arc<Load>,
    sessions: Sessions,
    places: Arc<Places>,
    learning_until: Instant,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    /// Answered with the CDN's address.
    SendAway,
    /// Answered with 503.
    Refuse(Shed),
}

/// What was shed. Closed: the metric uses [`Shed::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    /// A new session went to the CDN.
    SentAway,
    /// A new session was refused, because no CDN is configured.
    Session,
    /// A request of a session that is not known here.
    Stranger,
    /// A request of a known session: more than all that can be served.
    Known,
    /// A request of a session that has all the responses it may have.
    Greedy,
}

impl Shed {
    pub(crate) const ALL: [Self; 5] =
        [Self::SentAway, Self::Session, Self::Stranger, Self::Known, Self::Greedy];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SentAway => "sent-away",
            Self::Session => "session",
            Self::Stranger => "stranger",
            Self::Known => "known",
            Self::Greedy => "greedy",
        }
    }
}

/// One request, as far as shedding is concerned.
#[derive(Debug, Clone, Copy)]
struct Ask {
    /// A multivariant playlist: how a session begins.
    opens: bool,
    /// The session has been served lately.
    known: bool,
    /// Responses under way, this one included.
    active: usize,
}

/// Decides about a request.
fn verdict(ask: Ask, level: Level, max_active: usize, cdn: bool) -> Verdict {
    // Known sessions may use a quarter more than everybody together, so that strangers cannot starve them.
    if ask.active > max_active + max_active / 4 {
        let shed = if ask.known { Shed::Known } else { Shed::Stranger };
        return Verdict::Refuse(shed);
    }
    if ask.known {
        return Verdict::Serve;
    }
    let full = level >= Level::Refusing || ask.active > max_active;
    match (ask.opens, full || level >= Level::NoNewSessions, full) {
        (true, true, _) if cdn => Verdict::SendAway,
        (true, true, _) => Verdict::Refuse(Shed::Session),
        (false, _, true) => Verdict::Refuse(Shed::Stranger),
        _ => Verdict::Serve,
    }
}

impl Overload {
    /// `inherited`: viewers of another process are on their way here, and none of them is new.
    pub(crate) fn new(config: &OverloadConfig, load: &Arc<Load>, inherited: bool, now: Instant) -> Arc<Self> {
        let sessions = Sessions::new(config.sessions_remembered, config.session_memory, now);
        let learning_until = if inherited { now + LEARNING } else { now };
        let places = Places::new(config.max_responses_per_session);
        Arc::new(Self { config: config.clone(), load: Arc::clone(load), sessions, places, learning_until })
    }

    pub(crate) fn config(&self) -> &OverloadConfig {
        &self.config
    }

    /// Judges a request for media before its token is. `session` is asked for only when it matters; it may be a
    /// lie, which then costs a signature check.
    pub(crate) fn judge(
        &self,
        opens: bool,
        active: usize,
        now: Instant,
        session: impl FnOnce() -> Option<SessionId>,
    ) -> Verdict {
        let (level, max_active) = (self.load.level(), self.config.max_active_responses);
        if level < Level::NoNewSessions && active <= max_active {
            return Verdict::Serve;
        }
        let learning = now < self.learning_until && !opens;
        let known = learning || session().is_some_and(|session| self.sessions.knows(name(&session), now));
        verdict(Ask { opens, known, active }, level, max_active, self.config.cdn.is_some())
    }

    /// Notes that a session is being served, and gives its response a place; `None` when it has all it may have.
    pub(crate) fn serves(&self, session: &SessionId, now: Instant) -> Option<Place> {
        let session = name(session);
        self.sessions.note(session, now);
        self.places.take(session)
    }

    /// Seconds after which a refused viewer may come back: spread by the token, so that viewers who were
    /// refused together do not come back together.
    pub(crate) fn retry_after(&self, token: &str) -> u32 {
        let seconds = |wait: std::time::Duration| wait.as_secs().max(1);
        let (least, most) = (seconds(self.config.retry_after_least), seconds(self.config.retry_after_most));
        let spread = most.saturating_sub(least) + 1;
        u32::try_from(least + number(token.as_bytes()) % spread).unwrap_or(u32::MAX)
    }

    /// Where a new session goes: the same path at the CDN.
    pub(crate) fn elsewhere(&self, path: &str) -> Option<String> {
        self.config.cdn.as_ref().map(|cdn| format!("{}{path}", cdn.trim_end_matches('/')))
    }
}

fn name(session: &SessionId) -> u64 {
    number(session.as_str().as_bytes())
}

/// A number that nobody can choose for others.
fn number(text: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(text).0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests;
