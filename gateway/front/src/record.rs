//! One line in the access log for each response, written when its body has ended.
//!
//! A [`Record`] begins with the request, travels with the body and speaks when it is dropped: whatever way a
//! response ends, there is exactly one line, and the metrics say the same.
//!
//! The line names the session, never the token: who reads logs must not be able to watch. It holds no
//! address of the viewer either.

use std::sync::Arc;
use std::time::Duration;

use control_api::SessionId;
use engine::Outcome;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use media::SegmentKey;
use serde::Serialize;
use tokio::time::Instant;

use crate::cmcd::Said;
use crate::metrics::{Kind, Metrics};
use crate::overload::Place;
use crate::pulse::{Cause, Pulse};
use crate::refusal::Refusal;

/// Characters of a user agent that are kept.
const MAX_USER_AGENT: usize = 160;

/// Takes finished lines. Called on the path of a response: an implementation must not wait.
pub trait AccessSink: Send + Sync {
    /// Takes one JSON object without a line end. False when there is no room for it; it is then counted
    /// and gone.
    fn offer(&self, line: String) -> bool;
}

/// A bounded channel to whoever writes the lines.
impl AccessSink for tokio::sync::mpsc::Sender<String> {
    fn offer(&self, line: String) -> bool {
        self.try_send(line).is_ok()
    }
}

/// What tells the time of day, in Unix seconds.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Every byte was handed to the connection.
    Complete,
    /// The viewer closed the connection or the stream.
    ViewerLeft,
    /// The viewer took nothing for too long.
    ViewerStalled,
    /// The engine broke off; the connection or stream was aborted.
    UpstreamError,
    /// The drain deadline came.
    Drained,
}

impl End {
    pub(crate) const ALL: [Self; 5] =
        [Self::Complete, Self::ViewerLeft, Self::ViewerStalled, Self::UpstreamError, Self::Drained];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ViewerLeft => "viewer-left",
            Self::ViewerStalled => "viewer-stalled",
            Self::UpstreamError => "upstream-error",
            Self::Drained => "drained",
        }
    }
}

/// What all records of a front share.
pub(crate) struct Recorder {
    pub(crate) node: String,
    pub(crate) clock: WallClock,
    pub(crate) sink: Arc<dyn AccessSink>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The record of one response.
pub(crate) struct Record {
    recorder: Arc<Recorder>,
    pulse: Arc<Pulse>,
    began: Instant,
    time: u64,
    method: &'static str,
    version: Version,
    user_agent: Option<String>,
    key: Option<SegmentKey>,
    kind: Kind,
    /// Whose request it is; known when it was let in, and then it counts as under way.
    session: Option<SessionId>,
    /// Among the responses of its session.
    place: Option<Place>,
    status: Option<StatusCode>,
    range: Option<String>,
    said: Option<Said>,
    outcome: Option<Outcome>,
    source: Option<String>,
    stale: bool,
    refused: Option<Refusal>,
    first_byte: Option<Duration>,
    bytes: u64,
    end: Option<End>,
}

impl Record {
    pub(crate) fn begin(recorder: &Arc<Recorder>, pulse: &Arc<Pulse>, parts: &Parts) -> Self {
        pulse.began(parts.version == Version::HTTP_2);
        Self {
            recorder: Arc::clone(recorder),
            pulse: Arc::clone(pulse),
            began: Instant::now(),
            time: (recorder.clock)(),
            method: method(&parts.method),
            version: parts.version,
            user_agent: user_agent(&parts.headers),
            key: None,
            kind: Kind::Unknown,
            session: None,
            place: None,
            status: None,
            range: None,
            said: None,
            outcome: None,
            source: None,
            stale: false,
            refused: None,
            first_byte: None,
            bytes: 0,
            end: None,
        }
    }

    /// The time of day at which the request came, in Unix seconds.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn about(&mut self, kind: Kind) {
        self.kind = kind;
    }

    pub(crate) fn asks_for(&mut self, key: &SegmentKey) {
        self.key = Some(key.clone());
    }

    /// The request of a session that may watch. Only these count as responses under way: whoever is refused must
    /// not take anybody's place, however slowly he reads why.
    pub(crate) fn let_in(&mut self, session: &SessionId, place: Option<Place>) {
        self.place = place;
        if self.session.replace(session.clone()).is_none() {
            self.recorder.metrics.in_flight.inc();
        }
    }

    /// What the player reports of itself.
    pub(crate) fn says(&mut self, said: Option<Said>) {
        self.said = said;
        if let Some(said) = said {
            self.recorder.metrics.said.count(said.urgency);
        }
    }

    /// When the player needs the bytes; `None` when it did not say.
    pub(crate) fn needed_by(&self) -> Option<Instant> {
        Some(self.began + self.said?.within?)
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refused = Some(refusal);
        if refusal.closes() {
            self.pulse.refused();
        }
        self.recorder.metrics.refused(refusal);
    }

    pub(crate) fn served_by(&mut self, outcome: Outcome, source: Option<String>, stale: bool) {
        self.outcome = Some(outcome);
        self.source = source;
        self.stale = stale;
    }

    /// The head of the response is ready.
    pub(crate) fn answer(&mut self, status: StatusCode, range: Option<String>) {
        self.status = Some(status);
        self.range = range;
    }

    /// Body bytes are handed to the connection.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.recorder.metrics.sent(self.outcome, bytes);
        self.mark_first_byte();
    }

    fn mark_first_byte(&mut self) {
        if self.first_byte.is_some() {
            return;
        }
        let after = self.began.elapsed();
        self.first_byte = Some(after);
        if let Some(outcome) = self.outcome {
            self.recorder.metrics.first_byte(outcome, after);
        }
    }

    /// The response has ended in this way; the first word counts.
    pub(crate) fn ended(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    fn final_end(&self) -> End {
        self.end.unwrap_or(match self.pulse.cause() {
            Cause::Drained => End::Drained,
            Cause::Stalled => End::ViewerStalled,
            _ => End::ViewerLeft,
        })
    }

    fn line(&self, end: End) -> String {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let key = self.key.as_ref();
        let line = Line {
            time: self.time,
            node: &self.recorder.node,
            method: self.method,
            kind: self.kind.as_str(),
            title: key.map(|key| key.title.as_str()),
            package: key.map(|key| key.package.to_string()),
            rendition: key.map(|key| key.rendition.as_str()),
            part: key.map(|key| key.part.to_string()),
            status: self.status.map(|status| status.as_u16()),
            bytes: self.bytes,
            range: self.range.as_deref(),
            urgency: self.said.map(|said| said.urgency.as_str()),
            needed_in_ms: self.said.and_then(|said| said.within).map(ms),
            pace_kbps: self.said.and_then(|said| said.pace_kbps),
            outcome: self.outcome.map(Outcome::as_str),
            source: self.source.as_deref(),
            stale: self.stale,
            refused: self.refused.map(Refusal::code),
            ttfb_ms: self.first_byte.map(ms),
            total_ms: ms(self.began.elapsed()),
            http: version(self.version),
            session: self.session.as_ref().map(SessionId::as_str),
            user_agent: self.user_agent.as_deref(),
            end: end.as_str(),
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.final_end();
        let recorder = &self.recorder;
        if self.session.is_some() {
            recorder.metrics.in_flight.dec();
        }
        recorder.metrics.responded(self.kind, self.status, end);
        if !recorder.sink.offer(self.line(end)) {
            recorder.metrics.lost_lines.inc();
        }
        self.pulse.ended();
    }
}

/// The access line. Fields that mean nothing for a response are left out.
#[derive(Serialize)]
struct Line<'a> {
    /// When the request came, in Unix seconds.
    time: u64,
    node: &'a str,
    method: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rendition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    /// Absent when the viewer left before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Body bytes handed to the connection; the last of them may have been lost with it.
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    urgency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pace_kbps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    /// Purged softly, and served because no source delivered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttfb_ms: Option<u64>,
    total_ms: u64,
    http: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    end: &'a str,
}

/// Only the methods that exist: a stranger's word does not go into the log.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => "other",
    }
}

/// Cut to a bounded length; JSON escapes what is left.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_USER_AGENT).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use http::Request;
    use media::RenditionKind;
    use prometheus::Registry;
    use tokio::sync::mpsc;

    use super::*;

    /// A record of some request, and where its line will come out.
    pub(crate) fn some_record(pulse: &Arc<Pulse>) -> (Record, mpsc::Receiver<String>) {
        let (recorder, lines) = recorder();
        (Record::begin(&recorder, pulse, &parts("x")), lines)
    }

    fn recorder() -> (Arc<Recorder>, mpsc::Receiver<String>) {
        let (sink, lines) = mpsc::channel(4);
        let metrics = Metrics::register(&Registry::new()).expect("registers");
        let clock: WallClock = Arc::new(|| 1_800_000_000);
        (Arc::new(Recorder { node: "ams-1".to_owned(), clock, sink: Arc::new(sink), metrics }), lines)
    }

    fn parts(user_agent: &str) -> Parts {
        let request = Request::get("/p/secret/x").header(USER_AGENT, user_agent);
        request.body(()).expect("valid").into_parts().0
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_of_a_served_range() {
        let (recorder, mut lines) = recorder();
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let mut record = Record::begin(&recorder, &pulse, &parts("Roku/DVP-12.0\t\"x\""));
        let (key, _) = SegmentKey::parse("bbb/00000000000000ff/v720/7.m4s").expect("a key");
        record.asks_for(&key);
        record.about(Kind::of(&key, RenditionKind::Video));
        record.let_in(&"s-1".parse().expect("valid"), None);
        record.served_by(Outcome::Filled, Some("s3".to_owned()), false);
        record.answer(StatusCode::PARTIAL_CONTENT, Some("0-9".to_owned()));
        tokio::time::advance(Duration::from_millis(12)).await;
        record.sent(6);
        tokio::time::advance(Duration::from_millis(30)).await;
        record.sent(4);
        record.ended(End::Complete);
        assert_eq!(recorder.metrics.responses(), 1);
        drop(record);
        assert_eq!(recorder.metrics.responses(), 0);
        assert_eq!(
            lines.try_recv().as_deref(),
            Ok(concat!(
                r#"{"time":1800000000,"node":"ams-1","method":"GET","kind":"video","title":"bbb","#,
                r#""package":"00000000000000ff","rendition":"v720","part":"7","status":206,"bytes":10,"#,
                r#""range":"0-9","outcome":"filled","source":"s3","ttfb_ms":12,"total_ms":42,"http":"1.1","#,
                r#""session":"s-1","user_agent":"Roku/DVP-12.0\t\"x\"","end":"complete"}"#
            ))
        );
        assert_eq!(pulse.active(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lines_of_those_who_got_nothing() {
        let (recorder, mut lines) = recorder();
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let mut refused = Record::begin(&recorder, &pulse, &parts(&"u".repeat(500)));
        refused.refuse(Refusal::HeadTooLarge);
        refused.answer(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None);
        refused.ended(End::Complete);
        assert_eq!(recorder.metrics.responses(), 0, "the refused take no place");
        drop(refused);
        let line = lines.try_recv().expect("a line");
        let (start, agent) = line.split_at(line.find("\"http\"").expect("there"));
        assert_eq!(
            start,
            concat!(
                r#"{"time":1800000000,"node":"ams-1","method":"GET","kind":"unknown","status":431,"bytes":0,"#,
                r#""refused":"head-too-large","total_ms":0,"#
            )
        );
        assert_eq!(agent.matches('u').count(), MAX_USER_AGENT + 1, "{agent}");
        assert!(pulse.leaves_unread());

        for (cause, end) in
            [(Cause::Viewer, "viewer-left"), (Cause::Stalled, "viewer-stalled"), (Cause::Drained, "drained")]
        {
            let record = Record::begin(&recorder, &pulse, &parts("x"));
            pulse.doom(cause);
            drop(record);
            let line = lines.try_recv().expect("a line");
            assert!(line.ends_with(&format!("\"end\":\"{end}\"}}")) && !line.contains("status"), "{line}");
        }
    }
}
