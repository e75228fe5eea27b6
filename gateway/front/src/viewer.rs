//! The way of one viewer's request: check, route, shed, authorise, describe, plan, serve.

use std::sync::Arc;

use bytes::Bytes;
use engine::{Described, Engine, ServeError, Serving};
use futures_util::future::Either;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use media::key::Extension;
use media::validator::ETag;
use media::{ByteRange, Part, SegmentKey};
use tokio::time::Instant;

use crate::authorise::Authoriser;
use crate::body::ViewerBody;
use crate::cmcd;
use crate::explain::Debugger;
use crate::fields::{self, Origin, Particulars};
use crate::metrics::Kind;
use crate::multipart::{Multipart, Piece};
use crate::overload::{Overload, Shed, Verdict};
use crate::plan::{Plan, plan};
use crate::pulse::Pulse;
use crate::record::{Record, Recorder};
use crate::refusal::Refusal;
use crate::request::{self, Verb};
use crate::route::{Route, route};
use crate::server::{Answer, Handler};

/// Answers viewers.
pub(crate) struct Viewer {
    pub(crate) engine: Engine,
    pub(crate) authoriser: Authoriser,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) max_head_bytes: usize,
    pub(crate) overload: Arc<Overload>,
    pub(crate) debugger: Debugger,
}

/// A refusal and what it has to state.
struct Refused {
    refusal: Refusal,
    about: Particulars,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, about: Particulars::default() }
    }
}

impl Handler for Viewer {
    fn handle(self: Arc<Self>, request: Request<Incoming>, pulse: Arc<Pulse>) -> Answer {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let has_body = !body.is_end_stream();
            let mut record = Record::begin(&self.recorder, &pulse, &parts);
            let answered = self.answer(&parts, has_body, &mut record).await;
            let len = answered.as_ref().ok().and_then(Ready::len);
            let shown = self.debugger.fields(&parts, record.outcome(), len, &self.recorder.metrics);
            let mut response = match answered {
                Ok(ready) => ready.into_response(record),
                Err(refused) => self.refuse(&refused, parts.method == Method::HEAD, record),
            };
            response.headers_mut().extend(shown);
            response
        })
    }
}

/// A response that lacks nothing but its record.
struct Ready {
    status: StatusCode,
    fields: HeaderMap,
    range: Option<String>,
    content: Content,
}

enum Content {
    Nothing,
    Text(&'static str),
    Stream(u64, stream::BoxStream<'static, Result<Bytes, ServeError>>),
}

impl Ready {
    /// Bytes of a body that comes from the engine.
    fn len(&self) -> Option<u64> {
        match self.content {
            Content::Stream(len, _) => Some(len),
            Content::Nothing | Content::Text(_) => None,
        }
    }

    fn into_response(self, mut record: Record) -> Response<ViewerBody> {
        record.answer(self.status, self.range);
        let body = match self.content {
            Content::Nothing => ViewerBody::nothing(Some(record)),
            Content::Text(text) => ViewerBody::text(text, Some(record)),
            Content::Stream(len, bytes) => ViewerBody::engine(len, bytes, record),
        };
        respond(self.status, self.fields, body)
    }
}

fn respond(status: StatusCode, fields: HeaderMap, body: ViewerBody) -> Response<ViewerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

impl Viewer {
    async fn answer(&self, parts: &Parts, has_body: bool, record: &mut Record) -> Result<Ready, Refused> {
        let verb = request::check(parts, has_body, self.max_head_bytes)?;
        if verb == Verb::Options {
            record.about(Kind::Preflight);
            let (status, fields) = (StatusCode::NO_CONTENT, fields::preflight());
            return Ok(Ready { status, fields, range: None, content: Content::Nothing });
        }
        match route(parts.uri.path()).ok_or(Refusal::NoSuchPath)? {
            Route::Health => {
                record.about(Kind::Health);
                Ok(health(verb))
            }
            Route::Tokenless => Err(Refusal::NoToken.into()),
            Route::Media { token, key, extension } => {
                record.asks_for(&key);
                if let Some(away) = self.shed(token, &key, parts.uri.path())? {
                    return Ok(away);
                }
                let claims = self.authoriser.check(token, &key.title, record.time());
                let session = &claims.map_err(Refusal::Token)?.session;
                let place = self.overload.serves(session, Instant::now());
                if place.is_none() {
                    self.recorder.metrics.shed.count(Shed::Greedy);
                    return Err(self.come_back(&Refusal::Greedy.into(), token));
                }
                record.let_in(session, place);
                record.says(cmcd::said(parts));
                let served = self.media(&key, extension, verb, &parts.headers, record).await;
                served.map_err(|refused| self.come_back(&refused, token))
            }
        }
    }

    /// Whether the request is given up for the others. Asked before the token is verified and the engine is
    /// bothered: what is refused here costs next to nothing.
    fn shed(&self, token: &str, key: &SegmentKey, path: &str) -> Result<Option<Ready>, Refused> {
        let metrics = &self.recorder.metrics;
        let active = usize::try_from(metrics.responses() + 1).unwrap_or(usize::MAX);
        let session = || self.authoriser.claimed_session(token);
        let verdict = self.overload.judge(opens_session(key), active, Instant::now(), session);
        let shed = match (verdict, self.overload.elsewhere(path)) {
            (Verdict::Serve, _) => return Ok(None),
            (Verdict::SendAway, Some(there)) => {
                metrics.shed.count(Shed::SentAway);
                return Ok(Some(elsewhere(&there)));
            }
            (Verdict::SendAway, None) => Shed::Session,
            (Verdict::Refuse(shed), _) => shed,
        };
        metrics.shed.count(shed);
        Err(self.come_back(&Refusal::Shed.into(), token))
    }

    /// Says when another try makes sense: those who were let down together are not to come back together.
    fn come_back(&self, refused: &Refused, token: &str) -> Refused {
        let retry_after = Some(self.overload.retry_after(token));
        Refused { refusal: refused.refusal, about: Particulars { retry_after, ..refused.about } }
    }

    async fn media(
        &self,
        key: &SegmentKey,
        extension: Extension,
        verb: Verb,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Ready, Refused> {
        let described = {
            let _waiting = record.pulse().waiting();
            self.engine.describe(key).await.map_err(|error| unserved(key, &error))?
        };
        record.about(Kind::of(key, described.kind()));
        // A key does not hold the extension; only one of its spellings is the right one.
        if matches!(key.part, Part::Media(_)) && described.kind().extension() != extension {
            return Err(Refusal::NoSuchPath.into());
        }
        let (etag, total) = (ETag::of(&described.root()), described.len());
        let plan = plan(verb, headers, &etag, total);
        let plan = plan.map_err(|refusal| Refused {
            refusal,
            about: Particulars { total: Some(total), ..Particulars::default() },
        })?;
        let mut reply = Reply { fields: fields::object(&etag), record, node: &self.recorder.node };
        let content = match &plan {
            Plan::NotModified => Content::Nothing,
            Plan::Whole => self.whole(&described, extension, verb, &mut reply).await?,
            Plan::Single(range) => self.single(&described, extension, *range, &mut reply).await?,
            Plan::Multiple(ranges) => self.multiple(&described, extension, ranges, &mut reply).await?,
        };
        let range = match &plan {
            Plan::Single(range) => Some(range.to_string()),
            Plan::Multiple(ranges) => Some(joined(ranges)),
            Plan::NotModified | Plan::Whole => None,
        };
        Ok(Ready { status: plan.status(), fields: reply.fields, range, content })
    }

    async fn whole(
        &self,
        described: &Described,
        extension: Extension,
        verb: Verb,
        reply: &mut Reply<'_>,
    ) -> Result<Content, Refused> {
        let total = described.len();
        let bytes = match ByteRange::whole(total) {
            Some(range) if verb == Verb::Get => Some(self.serve(described, range, reply).await?),
            _ => None,
        };
        fields::content(&mut reply.fields, extension.content_type(), total, None);
        Ok(bytes.map_or(Content::Nothing, |bytes| Content::Stream(total, bytes.boxed())))
    }

    async fn single(
        &self,
        described: &Described,
        extension: Extension,
        range: ByteRange,
        reply: &mut Reply<'_>,
    ) -> Result<Content, Refused> {
        let bytes = self.serve(described, range, reply).await?;
        let content_range = range.content_range(described.len());
        fields::content(&mut reply.fields, extension.content_type(), range.len(), Some(&content_range));
        Ok(Content::Stream(range.len(), bytes.boxed()))
    }

    /// Opens the first range now, so that a failure is still an error response, and each other one when the
    /// viewer has come to it.
    async fn multiple(
        &self,
        described: &Described,
        extension: Extension,
        ranges: &[ByteRange],
        reply: &mut Reply<'_>,
    ) -> Result<Content, Refused> {
        let media_type = extension.content_type();
        let multipart = Multipart::new(ranges, described.len(), media_type, &described.root());
        let mut first = match ranges.first() {
            Some(range) => Some(self.serve(described, *range, reply).await?),
            None => None,
        };
        fields::content(&mut reply.fields, &multipart.content_type, multipart.len, None);
        let (engine, described, by) = (self.engine.clone(), described.clone(), reply.record.needed_by());
        let pieces = stream::iter(multipart.pieces).then(move |piece| {
            let opened = if matches!(piece, Piece::Range(_)) { first.take() } else { None };
            let (engine, described) = (engine.clone(), described.clone());
            async move {
                match (piece, opened) {
                    (Piece::Text(text), _) => Ok(Either::Left(stream::once(async { Ok(text) }))),
                    (Piece::Range(_), Some(opened)) => Ok(Either::Right(opened.boxed())),
                    (Piece::Range(range), None) => engine
                        .serve(&described, range, by)
                        .await
                        .map(|serving| Either::Right(serving.body.boxed())),
                }
            }
        });
        Ok(Content::Stream(multipart.len, pieces.try_flatten().boxed()))
    }

    async fn serve(
        &self,
        described: &Described,
        range: ByteRange,
        reply: &mut Reply<'_>,
    ) -> Result<impl Stream<Item = Result<Bytes, ServeError>> + Send + 'static + use<>, Refused> {
        let served = {
            let _waiting = reply.record.pulse().waiting();
            self.engine.serve(described, range, reply.record.needed_by()).await
        };
        let Serving { outcome, source, stale, body } =
            served.map_err(|error| unserved(&described.key, &error))?;
        let source = source.map(|source| source.to_string());
        let package_age = reply.record.time().saturating_sub(described.index().created);
        let origin = Origin { outcome, source: source.as_deref(), stale };
        fields::served(&mut reply.fields, reply.node, origin, package_age);
        reply.record.served_by(outcome, source, stale);
        Ok(body)
    }

    fn refuse(&self, refused: &Refused, head: bool, mut record: Record) -> Response<ViewerBody> {
        let refusal = refused.refusal;
        let (status, text) = (refusal.status(), refusal.text());
        record.refuse(refusal);
        record.answer(status, None);
        let http1 = record.version() < Version::HTTP_2;
        let fields = fields::refusal(&self.recorder.node, refusal, text.len(), refused.about, http1);
        let body =
            if head { ViewerBody::nothing(Some(record)) } else { ViewerBody::text(text, Some(record)) };
        respond(status, fields, body)
    }
}

/// A response in the making.
struct Reply<'a> {
    fields: HeaderMap,
    record: &'a mut Record,
    node: &'a str,
}

/// The engine's error: its text is for the operator, the viewer gets the reason.
fn unserved(key: &SegmentKey, error: &ServeError) -> Refused {
    tracing::info!(%key, reason = error.reason.as_str(), detail = %error.detail, "a request was not served");
    Refusal::Engine(error.reason).into()
}

/// A player begins with the multivariant playlist.
fn opens_session(key: &SegmentKey) -> bool {
    key.part == Part::Playlist && key.rendition.as_str() == media::key::MAIN
}

fn elsewhere(there: &str) -> Ready {
    let (status, fields) = (StatusCode::TEMPORARY_REDIRECT, fields::elsewhere(there));
    Ready { status, fields, range: None, content: Content::Nothing }
}

fn health(verb: Verb) -> Ready {
    let text = "ok\n";
    let content = if verb == Verb::Get { Content::Text(text) } else { Content::Nothing };
    Ready { status: StatusCode::OK, fields: fields::text(text.len()), range: None, content }
}

fn joined(ranges: &[ByteRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
