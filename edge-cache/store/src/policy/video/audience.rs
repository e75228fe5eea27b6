//! Who watches what: titles by how often they are begun, streams by their share, viewers by their place.
//!
//! Everything has a bound. What is beyond it is not followed and scores nothing, until something else has faded.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use media::{Part, SegmentKey};

use super::clock::{Clock, Counts};
use super::habits::Habits;
use super::numbered::Numbered;
use super::viewers::{Viewer, Viewers};

/// Titles that are followed; about 150 bytes each.
const MOST_TITLES: usize = 1 << 14;
/// Streams that are followed; about 130 bytes each.
const MOST_STREAMS: usize = 1 << 16;
/// Names of renditions that are followed.
const MOST_RENDITIONS: usize = 256;
/// Places behind a segment that are looked at: viewers who are farther away add little.
const MOST_BEHIND: usize = 4;
/// A title's beginnings are counted at these segments: who starts in the middle came back, and was counted.
const BEGINNING: u32 = 2;
/// Requests that the usual share of a rendition counts for: those of about five sessions.
const USUAL: f64 = 3_000.0;
/// Seconds between two segments before any were seen, how much a new interval counts, and what is one.
const PACE: f64 = 6.0;
const PACE_WEIGHT: f64 = 0.02;
const PACES: std::ops::Range<f64> = 1.0..30.0;
/// Paces without a request after which a viewer is still: he pauses, or has jumped and left a place behind where
/// nobody is.
const STILL: f64 = 3.0;
/// What a viewer who is still counts for, where something that is here is to be kept.
const STILL_WEIGHT: f64 = 0.2;
/// A title whose beginnings have faded to this is forgotten when nothing of it is here.
const FADED: f64 = 0.05;
/// Requests of a title that are worth one beginning for not being forgotten.
const BEGINNING_REQUESTS: f64 = 1_000.0;

/// The number of a stream; [`UNKNOWN`] for what is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamNumber(u32);

const UNKNOWN: StreamNumber = StreamNumber(u32::MAX);

/// What a score is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum WhatFor {
    /// For keeping what is here.
    Keep,
    /// For bringing something here, which costs as much as so many requests.
    Write { price: f64 },
}

pub(super) struct Audience {
    titles: Numbered<Title>,
    streams: Numbered<Stream>,
    /// Requests for each rendition of whatever title, of the long count, and for all of them.
    renditions: Numbered<f64>,
    asked: f64,
    habits: Habits,
    clock: Clock,
    /// The stream that is looked after next.
    hand: u32,
}

struct Title {
    begun: Counts,
    /// Requests, of the long count.
    asked: f64,
    /// Segments that are known of.
    segments: u32,
    /// Seconds from one segment to the next.
    pace: f64,
    streams: Vec<StreamNumber>,
}

struct Stream {
    title: u32,
    rendition: Option<u32>,
    /// Requests, of the long count.
    asked: f64,
    /// Objects that are here.
    held: u32,
    viewers: Viewers,
}

impl Audience {
    pub(super) fn new() -> Self {
        Self {
            titles: Numbered::new(MOST_TITLES),
            streams: Numbered::new(MOST_STREAMS),
            renditions: Numbered::new(MOST_RENDITIONS),
            asked: 0.0,
            habits: Habits::new(),
            clock: Clock::new(),
            hand: 0,
        }
    }

    /// Somebody asks for a key.
    pub(super) fn ask(&mut self, key: &SegmentKey, now: Duration) {
        self.clock.set(now.as_secs_f64());
        self.retell();
        self.look_after_one();
        let (Some(number), Part::Media(at)) = (self.follow(key), key.part) else { return };
        let Some((title, again)) = self.count(number, at) else { return };
        if !self.move_on(title, number, at) {
            if again {
                return;
            }
            self.begin(title, at);
        }
        self.habits.asked(at);
        if let Some(stream) = self.streams.get_mut(number.0) {
            stream.viewers.arrive(at, self.clock.tenths());
        }
    }

    /// Requests a second that a segment can expect.
    pub(super) fn score(&self, number: StreamNumber, at: u32, what_for: WhatFor) -> f64 {
        let Some(stream) = self.streams.get(number.0) else { return 0.0 };
        let Some(title) = self.titles.get(stream.title) else { return 0.0 };
        let to_come = self.clock.rate(title.begun) * self.habits.reach(at) * self.share(stream, title);
        to_come + self.expected_soon(stream, title.pace, at, what_for)
    }

    /// The stream of a key, if it is followed.
    pub(super) fn find(&self, key: &SegmentKey) -> Option<StreamNumber> {
        self.streams.find(hashes(key).1).map(StreamNumber)
    }

    /// One object more of a stream is here.
    pub(super) fn hold(&mut self, key: &SegmentKey) -> StreamNumber {
        let Some(number) = self.follow(key) else { return UNKNOWN };
        if let Some(stream) = self.streams.get_mut(number.0) {
            stream.held += 1;
        }
        number
    }

    /// One object less.
    pub(super) fn release(&mut self, number: StreamNumber) {
        if let Some(stream) = self.streams.get_mut(number.0) {
            stream.held = stream.held.saturating_sub(1);
        }
    }

    /// The share of a stream in its title's requests. Before a title has many, what its rendition has elsewhere.
    fn share(&self, stream: &Stream, title: &Title) -> f64 {
        let elsewhere = stream.rendition.and_then(|rendition| self.renditions.get(rendition));
        let usual = elsewhere.map_or(0.0, |asked| asked / self.asked);
        let guess = USUAL * self.clock.long();
        (stream.asked + guess * usual) / (title.asked + guess)
    }

    /// The best of the horizons at which the nearest viewers get to a segment, in requests a second.
    fn expected_soon(&self, stream: &Stream, pace: f64, at: u32, what_for: WhatFor) -> f64 {
        let since = self.clock.tenths().saturating_sub((STILL * pace * 10.0) as u32);
        let (price, still) = match what_for {
            WhatFor::Keep => (0.0, STILL_WEIGHT),
            WhatFor::Write { price } => (price, 0.0),
        };
        let counts = |viewer: &Viewer| if viewer.last >= since { 1.0 } else { still };
        let behind = stream.viewers.behind(at).filter(|viewer| counts(viewer) > 0.0);
        let (mut expected, mut best) = (-price, 0.0_f64);
        for viewer in behind.take(MOST_BEHIND) {
            let steps = f64::from(at - viewer.at);
            expected += f64::from(viewer.count) * counts(&viewer) * self.habits.stays(steps);
            best = best.max(expected / (steps * pace));
        }
        best
    }

    /// Counts a request. Tells the title, and whether the same was asked for only just now.
    fn count(&mut self, number: StreamNumber, at: u32) -> Option<(u32, bool)> {
        let worth = self.clock.long();
        let stream = self.streams.get_mut(number.0)?;
        let title = self.titles.get_mut(stream.title)?;
        let rendition = stream.rendition.and_then(|rendition| self.renditions.get_mut(rendition));
        let counts = [&mut stream.asked, &mut title.asked, &mut self.asked];
        counts.into_iter().chain(rendition).for_each(|count| *count += worth);
        title.segments = title.segments.max(at.saturating_add(1));
        Some((stream.title, stream.viewers.asks_again(at, self.clock.tenths())))
    }

    /// Takes the viewer who stood one segment before from there: in the same stream, or in another one when he
    /// changed the rung.
    fn move_on(&mut self, title: u32, number: StreamNumber, at: u32) -> bool {
        let now = self.clock.tenths();
        let Some(title) = self.titles.get_mut(title) else { return false };
        let others = title.streams.iter().filter(|other| **other != number);
        let streams = &mut self.streams;
        let mut leave = |from: &StreamNumber| streams.get_mut(from.0)?.viewers.leave(at, now);
        let Some(waited) = std::iter::once(&number).chain(others).find_map(&mut leave) else { return false };
        self.habits.stepped();
        let waited = f64::from(waited) / 10.0;
        if PACES.contains(&waited) {
            title.pace += (waited - title.pace) * PACE_WEIGHT;
        }
        true
    }

    /// Somebody came whom nobody knew.
    fn begin(&mut self, title: u32, at: u32) {
        let Some(title) = self.titles.get_mut(title).filter(|_| at < BEGINNING) else { return };
        for (count, worth) in title.begun.iter_mut().zip(self.clock.worth()) {
            *count += worth;
        }
        self.habits.begun(title.segments);
    }

    /// The stream of a key; a new one if there is room.
    fn follow(&mut self, key: &SegmentKey) -> Option<StreamNumber> {
        let (title, hash) = hashes(key);
        let known = self.streams.find(hash);
        known.or_else(|| self.begin_to_follow(key, title, hash)).map(StreamNumber)
    }

    fn begin_to_follow(&mut self, key: &SegmentKey, title_hash: u64, hash: u64) -> Option<u32> {
        let name = hash_of(&key.rendition);
        let rendition = self.renditions.find(name).or_else(|| self.renditions.insert(name, 0.0));
        let known = self.titles.find(title_hash);
        let title = known.or_else(|| self.titles.insert(title_hash, Title::new()))?;
        let stream = Stream { title, rendition, asked: 0.0, held: 0, viewers: Viewers::default() };
        let number = self.streams.insert(hash, stream);
        match (number, self.titles.get_mut(title)) {
            (Some(number), Some(title)) => title.streams.push(StreamNumber(number)),
            (None, _) if known.is_none() => self.titles.remove(title),
            _ => {}
        }
        number
    }

    /// Looks after one stream at each request: who is gone, and what has faded.
    fn look_after_one(&mut self) {
        let number = if self.hand < self.streams.places() { self.hand } else { 0 };
        self.hand = number + 1;
        let Some(stream) = self.streams.get_mut(number) else { return };
        self.habits.gone(stream.viewers.forget_idle(self.clock.tenths()));
        let title_number = stream.title;
        let in_use = stream.held > 0 || !stream.viewers.is_empty();
        let Some(title) = self.titles.get_mut(title_number).filter(|_| !in_use) else { return };
        if title.begun[1].max(title.asked / BEGINNING_REQUESTS) < FADED * self.clock.long() {
            self.streams.remove(number);
            title.streams.retain(|other| other.0 != number);
            if title.streams.is_empty() {
                self.titles.remove(title_number);
            }
        }
    }

    fn retell(&mut self) {
        let Some([short, long]) = self.clock.retell() else { return };
        for title in self.titles.values_mut() {
            title.begun = [title.begun[0] / short, title.begun[1] / long];
            title.asked /= long;
        }
        let streams = self.streams.values_mut().map(|stream| &mut stream.asked);
        let others = self.renditions.values_mut().chain([&mut self.asked]);
        streams.chain(others).for_each(|asked| *asked /= long);
    }
}

impl Title {
    fn new() -> Self {
        Self { begun: [0.0; 2], asked: 0.0, segments: 0, pace: PACE, streams: Vec::new() }
    }
}

/// Of the title and of the stream. Fixed keys: the same run makes the same choices.
fn hashes(key: &SegmentKey) -> (u64, u64) {
    let title = hash_of(&(&key.title, key.package));
    (title, hash_of(&(title, &key.rendition)))
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use media::PackageId;

    use super::*;

    fn key(title: &str, rendition: &str, n: u32) -> SegmentKey {
        let (title, rendition) = (title.parse().expect("a name"), rendition.parse().expect("a name"));
        SegmentKey { title, package: PackageId(1), rendition, part: Part::Media(n) }
    }

    /// Lets somebody watch from one segment to another from a second on; tells when he is done.
    fn watch(audience: &mut Audience, title: &str, segments: std::ops::Range<u32>, from: u64) -> u64 {
        for (at, n) in segments.clone().enumerate() {
            audience.ask(&key(title, "v720", n), Duration::from_secs(from + 6 * at as u64));
        }
        from + 6 * segments.len() as u64
    }

    fn score(audience: &Audience, title: &str, n: u32) -> f64 {
        audience.find(&key(title, "v720", n)).map_or(0.0, |stream| audience.score(stream, n, WhatFor::Keep))
    }

    #[test]
    fn before_a_viewer_lies_more_than_behind_him() {
        let mut audience = Audience::new();
        watch(&mut audience, "film", 0..100, 0);
        let next = score(&audience, "film", 100);
        assert!((0.12..0.18).contains(&next), "one request in six seconds: {next}");
        assert!(next > 5.0 * score(&audience, "film", 110), "the farther, the less");
        assert!(score(&audience, "film", 110) > 100.0 * score(&audience, "film", 90), "he passed there");
        let begun = score(&audience, "film", 99);
        assert!(begun > 0.0, "others may come");
    }

    #[test]
    fn whoever_is_still_counts_little_and_is_worth_no_write() {
        let mut audience = Audience::new();
        let end = watch(&mut audience, "film", 0..50, 0);
        let moving = score(&audience, "film", 60);
        let end = watch(&mut audience, "other", 0..6, end);
        let still = score(&audience, "film", 60);
        assert!((0.15..0.25).contains(&(still / moving)), "{still} {moving}");
        let stream = audience.find(&key("film", "v720", 60)).expect("followed");
        assert!(audience.score(stream, 60, WhatFor::Write { price: 0.0 }) < moving / 100.0);
        watch(&mut audience, "other", 6..400, end);
        assert!(score(&audience, "film", 60) < moving / 100.0, "gone");
    }

    #[test]
    fn a_change_of_the_rung_is_no_new_viewer() {
        let mut audience = Audience::new();
        let end = watch(&mut audience, "film", 0..10, 0);
        for (rendition, n, at) in [("v1080", 10, end), ("v1080", 11, end + 6), ("v720", 12, end + 12)] {
            audience.ask(&key("film", rendition, n), Duration::from_secs(at));
        }
        let high = audience.find(&key("film", "v1080", 0)).expect("followed");
        assert!(audience.streams.get(high.0).expect("there").viewers.is_empty(), "he went back");
        let title =
            audience.titles.find(hashes(&key("film", "v720", 0)).0).and_then(|at| audience.titles.get(at));
        let begun =
            audience.clock.rate(title.expect("followed").begun) / audience.clock.rate(audience.clock.worth());
        assert!((0.99..=1.0).contains(&begun), "one beginning: {begun}");
    }

    #[test]
    fn popular_titles_and_renditions_score_more() {
        let mut audience = Audience::new();
        let mut now = 0;
        for session in 0..30 {
            now = watch(&mut audience, "much", 0..40, now);
            if session % 5 == 0 {
                now = watch(&mut audience, "little", 0..40, now);
            }
        }
        watch(&mut audience, "done", 0..1, now + 1_000);
        let [much, little] = ["much", "little"].map(|title| score(&audience, title, 20));
        assert!((4.0..6.5).contains(&(much / little)), "{much} {little}");
        assert!(score(&audience, "much", 20) > score(&audience, "much", 3_000), "few get there");
    }

    #[test]
    fn what_has_faded_makes_room() {
        let mut audience = Audience::new();
        for title in 0..100 {
            watch(&mut audience, &format!("t{title}"), 0..2, title * 20);
        }
        let held = audience.hold(&key("t7", "v720", 1));
        let month = 60 * 86_400;
        (0..400).for_each(|n| {
            audience.ask(&key("new", "v720", n), Duration::from_secs(month + u64::from(n) * 6));
        });
        let followed =
            (0..100).filter(|title| audience.find(&key(&format!("t{title}"), "v720", 0)).is_some());
        assert_eq!(followed.collect::<Vec<_>>(), [7], "something of it is here");
        audience.release(held);
        (400..800).for_each(|n| {
            audience.ask(&key("new", "v720", n), Duration::from_secs(month + u64::from(n) * 6));
        });
        assert_eq!(audience.find(&key("t7", "v720", 0)), None);
    }

    #[test]
    fn beyond_the_bounds_nothing_is_followed() {
        let mut audience = Audience::new();
        for title in 0..MOST_TITLES + 10 {
            audience.ask(&key(&format!("t{title}"), "v720", 0), Duration::ZERO);
        }
        assert_eq!(audience.titles.places() as usize, MOST_TITLES);
        assert_eq!(audience.hold(&key("one-more", "v720", 0)), UNKNOWN);
        assert!(audience.score(UNKNOWN, 0, WhatFor::Keep).abs() < f64::MIN_POSITIVE);
        audience.release(UNKNOWN);
    }
}
