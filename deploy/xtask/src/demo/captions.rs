//! A caption file for the film, so that the demonstration has one: it tells the time and gives the credit.

use std::fmt::Write;
use std::path::Path;

use crate::failure::{Context, Outcome};

/// Seconds between two cues.
const EVERY: u32 = 5;

/// Writes WebVTT with a cue every five seconds.
pub(super) fn write(path: &Path, seconds: u32) -> Outcome {
    std::fs::write(path, text(seconds)).doing(path.display())
}

fn text(seconds: u32) -> String {
    let mut text = String::from("WEBVTT\n");
    for start in (0..seconds).step_by(EVERY as usize) {
        let end = (start + EVERY - 1).min(seconds);
        let line = match start {
            0 => "Big Buck Bunny, (c) Blender Foundation, CC BY 3.0".to_owned(),
            _ => format!("{start} seconds into the film"),
        };
        let _ = write!(text, "\n{}.000 --> {}.000\n{line}\n", clock(start), clock(end));
    }
    text
}

fn clock(seconds: u32) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_stay_within_the_film() {
        let text = text(12);
        assert_eq!(text.matches(" --> ").count(), 3);
        assert!(text.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\n"), "{text}");
        assert!(text.ends_with("00:00:10.000 --> 00:00:12.000\n10 seconds into the film\n"), "{text}");
    }
}
