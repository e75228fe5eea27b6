//! What a source does with a question.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use media::ByteRange;
use sourcing::Reason;

use crate::chance::Chance;

const LATENCY: Duration = Duration::from_millis(30);
const BYTES_PER_SECOND: u64 = 4_000_000;

/// One question to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The object's full path.
    pub object: String,
    /// Which bytes of it.
    pub range: ByteRange,
    /// When, since the world began.
    pub at: Duration,
}

impl Question {
    /// Whether it is for media, as opposed to the index, its digests or a playlist.
    #[must_use]
    pub fn is_media(&self) -> bool {
        self.object.ends_with(".mp4")
    }
}

/// How one question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// From the question to the answer.
    pub latency: Duration,
    /// Bytes per virtual second; at least 1.
    pub rate: u64,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
}

/// What goes wrong. Offsets count from the first byte of the answer; one past its end does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body breaks off after so many bytes.
    Cut(u64),
    /// The connection is reset after so many bytes; what was on its way is lost.
    Reset(u64),
    /// The body falls silent after so many bytes.
    Stall(u64),
    /// After so many bytes the rest comes at 1 KB/s: never silent, and never done.
    Drip(u64),
    /// One bit of this byte is wrong.
    Flip(u64),
    /// The object is another version than the index knows.
    Version(Version),
    /// The answer is this error.
    Refuse(Reason),
    /// There never is an answer.
    Hang,
}

/// How another version of an object differs from the one that was indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// It is a byte longer.
    Length,
    /// It is as long, and every byte is another.
    Bytes,
    /// It has the same bytes under a new validator: nothing is wrong with it.
    Tag,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 3] = [Self::Length, Self::Bytes, Self::Tag];
}

impl Default for Behaviour {
    /// 30 ms to the answer, 4 MB/s, nothing wrong.
    fn default() -> Self {
        Self { latency: LATENCY, rate: BYTES_PER_SECOND, fault: None }
    }
}

impl Behaviour {
    /// The default, but this goes wrong.
    #[must_use]
    pub fn faulty(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// Anything that a source in trouble does, and in half the cases nothing wrong. `len` is how many bytes
    /// were asked for.
    #[must_use]
    pub fn troubled(chance: Chance, len: u64) -> Self {
        let at = chance.for_("at").below(len);
        let fault = match chance.for_("fault").below(16) {
            0 => Some(Fault::Cut(at)),
            1 => Some(Fault::Reset(at)),
            2 => Some(Fault::Stall(at)),
            3 => Some(Fault::Drip(at)),
            4 => Some(Fault::Flip(at)),
            5 => Some(Fault::Version(Version::ALL[chance.for_("version").below(3) as usize])),
            6 => Some(Fault::Refuse(Reason::ALL[chance.for_("reason").below(9) as usize])),
            7 => Some(Fault::Hang),
            _ => None,
        };
        let latency = Duration::from_millis(chance.for_("latency").between(1, 200));
        Self { latency, rate: chance.for_("rate").between(300_000, 8_000_000), fault }
    }
}

type Answer = dyn Fn(&Question, Chance) -> Behaviour + Send + Sync;

/// Decides how each question is answered: a function of the question and of a [`Chance`] that belongs to this
/// source, object and offset, so that one question more changes no other answer.
#[derive(Clone)]
pub struct Script(Arc<Answer>);

impl Script {
    /// Any function.
    pub fn new(answer: impl Fn(&Question, Chance) -> Behaviour + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// Delivers what it is asked for, at the default pace.
    #[must_use]
    pub fn honest() -> Self {
        Self::new(|_, _| Behaviour::default())
    }

    /// Treats media in one way, and is honest about everything else.
    #[must_use]
    pub fn media(behaviour: Behaviour) -> Self {
        Self::new(move |question, _| if question.is_media() { behaviour } else { Behaviour::default() })
    }

    /// In trouble half of the time: see [`Behaviour::troubled`].
    #[must_use]
    pub fn troubled() -> Self {
        Self::new(|question, chance| Behaviour::troubled(chance, question.range.len()))
    }

    /// The same, but cannot be reached before this moment of the world.
    #[must_use]
    pub fn dead_until(self, moment: Duration) -> Self {
        Self::new(move |question, chance| {
            let alive = question.at >= moment;
            if alive {
                self.answer(question, chance)
            } else {
                Behaviour::faulty(Fault::Refuse(Reason::Unavailable))
            }
        })
    }

    /// The decision for one question.
    #[must_use]
    pub fn answer(&self, question: &Question, chance: Chance) -> Behaviour {
        (self.0)(question, chance)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}
