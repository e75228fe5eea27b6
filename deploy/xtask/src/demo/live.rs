//! The line that tells each second where bytes come from.

use std::time::Duration;

use super::Playing;
use crate::clock::nap;
use crate::failure::Outcome;
use crate::metrics::{Metrics, dollars};
use crate::term;

const EVERY: Duration = Duration::from_secs(1);

/// Shows the line until a program ends or the person presses Ctrl-C.
pub(super) fn watch(mut playing: Playing) -> Outcome {
    let mut line = term::LiveLine::new();
    loop {
        playing.world.still_there()?;
        let metrics = Metrics::read(&playing.world.admin)?;
        // Into a file only what changed is written.
        line.show(&format!("{} {}", metrics.delivered(), metrics.upstream()), &text(&metrics));
        nap(EVERY);
    }
}

fn text(metrics: &Metrics) -> String {
    let outcome = |name| term::bytes(metrics.of("weir_engine_bytes_total", "outcome", name));
    let sources = metrics.bought();
    let sources: Vec<String> =
        sources.iter().map(|(id, bytes)| format!("{id} {}", term::bytes(*bytes))).collect();
    let sources = if sources.is_empty() { "nothing yet".to_owned() } else { sources.join(", ") };
    format!(
        "delivered {} (memory {}, disk {}, joined {}, filled {}) | bought: {sources} | saved {}",
        term::bytes(metrics.delivered()),
        outcome("memory"),
        outcome("disk"),
        outcome("joined"),
        outcome("filled"),
        dollars(metrics.saved_picodollars()),
    )
}
