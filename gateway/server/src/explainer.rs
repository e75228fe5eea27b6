//! Explanations: what this node has of a path, and where the rest would come from now.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control_api::explain::{Explanation, SourceView, TierView};
use engine::{Described, Engine, Failure, ServeError};
use front::{Explain, Explaining, Unexplained};
use media::SegmentKey;
use sourcing::planner::Cost;
use sourcing::{Explained, SourceId, SourceKind, Sources};

use crate::sources::is_object_name;

/// What an object of unknown length is priced for: about a small index.
const GUESSED_LEN: u64 = 64 * 1024;

/// Explains once there is something to explain.
pub(crate) struct Explainer {
    node: String,
    house: OnceLock<(Engine, Arc<Sources>)>,
}

impl Explainer {
    pub(crate) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), house: OnceLock::new() }
    }

    pub(crate) fn begin(&self, engine: &Engine, sources: &Arc<Sources>) {
        // Only ever set by the start of the node.
        let _ = self.house.set((engine.clone(), Arc::clone(sources)));
    }

    async fn about(&self, path: &str) -> Result<Explanation, Unexplained> {
        let starting = || Unexplained::Later("the cache is not open yet".to_owned());
        let (engine, sources) = self.house.get().ok_or_else(starting)?;
        let path = without_token(path);
        match SegmentKey::parse(path) {
            Ok((key, _)) => {
                let described = engine.describe(&key).await.map_err(|error| unexplained(&error))?;
                Ok(self.segment(engine, sources, &described))
            }
            Err(_) if is_object_name(path) && path.contains('/') => Ok(self.object(sources, path)),
            Err(error) => Err(Unexplained::Path(format!("neither a segment ({error}) nor an object"))),
        }
    }

    fn segment(&self, engine: &Engine, sources: &Sources, described: &Described) -> Explanation {
        let (tiers, len) = (engine.tiers(described), described.len());
        let priced_bytes = if tiers.lacking_bytes > 0 { tiers.lacking_bytes } else { len };
        Explanation {
            node: self.node.clone(),
            path: described.key.to_string(),
            object: described.entry.object.clone(),
            bytes: Some(len),
            tiers: Some(TierView {
                groups: tiers.groups,
                memory: tiers.memory,
                disk: tiers.disk,
                lacking_bytes: tiers.lacking_bytes,
                filling: tiers.filling,
            }),
            priced_bytes,
            sources: views(sources, priced_bytes),
        }
    }

    fn object(&self, sources: &Sources, path: &str) -> Explanation {
        Explanation {
            node: self.node.clone(),
            path: path.to_owned(),
            object: path.to_owned(),
            bytes: None,
            tiers: None,
            priced_bytes: GUESSED_LEN,
            sources: views(sources, GUESSED_LEN),
        }
    }
}

impl Explain for Explainer {
    fn explain<'a>(&'a self, path: &'a str) -> Explaining<'a> {
        Box::pin(async move {
            let explanation = self.about(path).await?;
            serde_json::to_string(&explanation).map_err(|error| Unexplained::Later(error.to_string()))
        })
    }

    fn sources(&self, bytes: u64) -> String {
        let items = self.house.get().map(|(_, sources)| views(sources, bytes)).unwrap_or_default();
        items.iter().map(item).collect::<Vec<_>>().join(", ")
    }
}

/// A viewer's path, or what comes after its token.
fn without_token(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_prefix("p/").and_then(|rest| rest.split_once('/')).map_or(path, |(_token, key)| key)
}

fn unexplained(error: &ServeError) -> Unexplained {
    match error.reason {
        Failure::NoSuchTitle | Failure::NoSuchSegment => Unexplained::Missing(error.to_string()),
        _ => Unexplained::Later(error.to_string()),
    }
}

fn views(sources: &Sources, bytes: u64) -> Vec<SourceView> {
    let kinds = sources.report();
    let kind = |id: &SourceId| kinds.iter().find(|report| report.id == *id).map(|report| report.kind);
    sources.explain(bytes).iter().map(|line| view(line, kind(&line.id), bytes)).collect()
}

/// One line of the planner's explanation, as people and programs read it.
fn view(line: &Explained, kind: Option<SourceKind>, bytes: u64) -> SourceView {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (byte, request) = (line.asking.byte, line.asking.request);
    SourceView {
        source: line.id.to_string(),
        kind: kind.map_or("", SourceKind::as_str).to_owned(),
        usd_per_gb: usd(u128::from(byte.get()) / 1_000 * 1_000_000),
        usd_per_request: usd(u128::from(request.get()) / 1_000_000),
        usd: usd(Cost::of(byte, request, bytes).picodollars()),
        standing: line.standing.as_str().to_owned(),
        rest_ends_in_ms: line.rest.map(ms),
        first_byte_ms: line.first_byte.map(ms),
        first_byte_p50_ms: line.first_byte_p50.map(ms),
        first_byte_p95_ms: line.first_byte_p95.map(ms),
        first_byte_p99_ms: line.first_byte_p99.map(ms),
        bytes_per_second: line.pace,
        failed_percent: line.failed_percent,
        permits: line.permits as u64,
        reason: line.reason.map(|reason| reason.as_str().to_owned()),
    }
}

/// Picodollars as dollars, exactly.
fn usd(picodollars: u128) -> String {
    const DOLLAR: u128 = 1_000_000_000_000;
    let (whole, rest) = (picodollars / DOLLAR, picodollars % DOLLAR);
    match format!("{rest:012}").trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// A source as an item of a structured field list (RFC 9651). Its decimals have three digits at most, which is a
/// picodollar for a byte; what is finer is rounded up, so that nothing looks free that is not.
fn item(view: &SourceView) -> String {
    let (whole, fraction) = view.usd_per_gb.split_once('.').unwrap_or((&view.usd_per_gb, "0"));
    let milli = whole.parse::<u64>().unwrap_or(0).saturating_mul(1_000);
    let digits = format!("{fraction:0<3}");
    let (kept, finer) = digits.split_at(3);
    let up = u64::from(finer.bytes().any(|digit| digit != b'0'));
    let milli = milli.saturating_add(kept.parse::<u64>().unwrap_or(0) + up);
    let price = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    let latency = view.first_byte_ms.map(|ms| format!(";latency={ms}")).unwrap_or_default();
    let reason = view.reason.as_deref().unwrap_or("not-asked");
    format!("{};price={price};state={}{latency};reason={reason}", name(&view.source), view.standing)
}

/// A source's name may begin with a digit, which no token does: then it is a string.
fn name(id: &str) -> String {
    let token = id.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if token { id.to_owned() } else { format!("\"{id}\"") }
}

#[cfg(test)]
mod tests {
    use sourcing::health::Standing;
    use sourcing::planner::{Asking, ChoiceReason};
    use sourcing::tariff::Rate;

    use super::*;

    fn explained(id: &str, picodollars: u64, standing: Standing) -> Explained {
        let request = Rate::attodollars(400_000_500_000);
        Explained {
            id: id.parse().expect("an id"),
            asking: Asking { byte: Rate::picodollars(picodollars), request },
            standing,
            rest: None,
            first_byte: Some(Duration::from_micros(12_700)),
            first_byte_p50: None,
            first_byte_p95: None,
            first_byte_p99: None,
            pace: None,
            failed_percent: None,
            permits: 64,
            reason: Some(ChoiceReason::Cheapest),
        }
    }

    #[tokio::test]
    async fn a_line_says_what_the_planner_knows() {
        let rest = Duration::from_millis(1_500);
        let standing = Standing::Open { until: tokio::time::Instant::now() + rest };
        let line = Explained { rest: Some(rest), ..explained("s3", 85, standing) };
        let seen = view(&line, Some(SourceKind::S3), 1_000_000);
        assert_eq!((seen.usd_per_gb.as_str(), seen.usd_per_request.as_str()), ("0.085", "0.0000004"));
        assert_eq!((seen.usd.as_str(), seen.rest_ends_in_ms), ("0.0000854", Some(1_500)));
        assert_eq!(item(&seen), "s3;price=0.085;state=open;latency=12;reason=cheapest");
        let silent = Explained { first_byte: None, reason: None, ..explained("1st", 0, Standing::Closed) };
        assert_eq!(item(&view(&silent, None, 1)), "\"1st\";price=0.000;state=closed;reason=not-asked");
    }

    #[test]
    fn prices_are_exact_and_never_rounded_to_nothing() {
        for (picodollars, text) in
            [(0, "0"), (1, "0.000000000001"), (85_000_000_000, "0.085"), (12_000_000_000_000, "12")]
        {
            assert_eq!(usd(picodollars), text);
        }
        let line = |atto: u64| {
            let byte = Rate::attodollars(atto);
            let mut line = explained("a", 0, Standing::Closed);
            line.asking.byte = byte;
            item(&view(&line, None, 1))
        };
        assert!(line(79_162_419).starts_with("a;price=0.080;"), "{}", line(79_162_419));
        assert!(line(1_000).starts_with("a;price=0.001;"), "{}", line(1_000));
        assert!(line(12_500_000_000).starts_with("a;price=12.500;"), "{}", line(12_500_000_000));
    }

    #[test]
    fn tokens_are_taken_off() {
        for path in ["/p/to-ken/a/b/c/1.m4s", "p/t/a/b/c/1.m4s", "/a/b/c/1.m4s", "a/b/c/1.m4s"] {
            assert_eq!(without_token(path), "a/b/c/1.m4s", "{path}");
        }
    }
}
