//! A media segment: one or more fragments, each a `moof` and its `mdat`.

use super::init::{Init, SampleDefaults};
use super::reader::{IsoBox, boxes};
use super::{CmafError, Fault, FourCc, INPUT};

/// `sample_is_non_sync_sample` of the sample flags.
const NON_SYNC: u32 = 0x0001_0000;

/// What a media segment promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Whether the first sample is a sync sample: the segment can be decoded without the one before.
    pub starts_with_sync: bool,
    /// The decode time of the first sample, in ticks.
    pub base_time: u64,
    /// The durations of all samples together, in ticks.
    pub duration: u64,
    /// How many samples.
    pub samples: u64,
    /// How many fragments.
    pub fragments: u32,
    /// Whether each fragment begins where the one before ended.
    pub contiguous: bool,
    /// Ticks per second, if the initialisation section was given.
    pub timescale: Option<u32>,
}

impl SegmentFacts {
    /// The decode time after the last sample, in ticks: where the next segment should begin.
    #[must_use]
    pub fn end_time(&self) -> u64 {
        self.base_time.saturating_add(self.duration)
    }
}

/// Reads a segment that says everything itself.
///
/// # Errors
/// [`CmafError`] when a box is malformed or cut off, there is no sample, or a value stands only in the
/// initialisation section ([`Init::segment_facts`] knows it).
pub fn segment_facts(bytes: &[u8]) -> Result<SegmentFacts, CmafError> {
    facts(bytes, None)
}

impl Init {
    /// Reads a segment of this track.
    ///
    /// # Errors
    /// [`CmafError`] when a box is malformed or cut off, there is no sample, or the segment belongs to
    /// another track.
    pub fn segment_facts(&self, bytes: &[u8]) -> Result<SegmentFacts, CmafError> {
        facts(bytes, Some(self))
    }
}

fn facts(bytes: &[u8], init: Option<&Init>) -> Result<SegmentFacts, CmafError> {
    let mut whole: Option<SegmentFacts> = None;
    let mut awaited: Option<IsoBox<'_>> = None;
    for item in boxes(bytes) {
        let item = item?;
        match (&item.kind.0, awaited) {
            (b"moof", Some(before)) => return Err(before.error(Fault::Missing(FourCc(*b"mdat")))),
            (b"moof", None) => {
                let fragment = fragment(&item, init)?;
                whole = Some(whole.map_or(Ok(fragment), |whole| joined(whole, &fragment, &item))?);
                awaited = Some(item);
            }
            (b"mdat", _) => awaited = None,
            _ => {}
        }
    }
    match (whole, awaited) {
        (_, Some(before)) => Err(before.error(Fault::Missing(FourCc(*b"mdat")))),
        (Some(facts), None) => Ok(facts),
        (None, None) => Err(CmafError { at: 0, kind: INPUT, fault: Fault::Missing(FourCc(*b"moof")) }),
    }
}

fn joined(whole: SegmentFacts, next: &SegmentFacts, moof: &IsoBox<'_>) -> Result<SegmentFacts, CmafError> {
    let overflow = || moof.error(Fault::Overflow);
    Ok(SegmentFacts {
        duration: whole.duration.checked_add(next.duration).ok_or_else(overflow)?,
        samples: whole.samples.checked_add(next.samples).ok_or_else(overflow)?,
        fragments: whole.fragments + 1,
        contiguous: whole.contiguous && next.base_time == whole.end_time(),
        ..whole
    })
}

fn fragment(moof: &IsoBox<'_>, init: Option<&Init>) -> Result<SegmentFacts, CmafError> {
    let traf = moof.child(*b"traf")?;
    let header = Header::read(&traf.child(*b"tfhd")?, init)?;
    let base_time = base_time(&traf.child(*b"tfdt")?)?;
    let (mut duration, mut samples, mut first_flags) = (0u64, 0u64, None);
    for item in traf.children() {
        let item = item?;
        if item.kind == FourCc(*b"trun") {
            let run = Run::read(&item, &header)?;
            duration = duration.checked_add(run.duration).ok_or(moof.error(Fault::Overflow))?;
            samples += run.samples;
            first_flags = first_flags.or(run.first_flags);
        }
    }
    base_time.checked_add(duration).ok_or(moof.error(Fault::Overflow))?;
    let first_flags = first_flags.ok_or(moof.error(Fault::Missing(FourCc(*b"trun"))))?;
    Ok(SegmentFacts {
        starts_with_sync: first_flags & NON_SYNC == 0,
        base_time,
        duration,
        samples,
        fragments: 1,
        contiguous: true,
        timescale: init.map(|init| init.timescale),
    })
}

fn base_time(tfdt: &IsoBox<'_>) -> Result<u64, CmafError> {
    let mut fields = tfdt.fields();
    let (version, _) = fields.version_and_flags()?;
    fields.wide(version)
}

/// `tfhd` over `trex`: the values of samples for which a run states none. `None` is unknown.
struct Header {
    duration: Option<u32>,
    flags: Option<u32>,
}

impl Header {
    fn read(tfhd: &IsoBox<'_>, init: Option<&Init>) -> Result<Self, CmafError> {
        let mut fields = tfhd.fields();
        let (_, flags) = fields.version_and_flags()?;
        let track = fields.u32()?;
        if init.is_some_and(|init| init.track != track) {
            return Err(tfhd.error(Fault::Value("track")));
        }
        if flags & 0x01 != 0 {
            fields.u64()?; // base data offset
        }
        fields.optional(flags, 0x02)?; // sample description
        let duration = fields.optional(flags, 0x08)?;
        fields.optional(flags, 0x10)?; // sample size
        let sample_flags = fields.optional(flags, 0x20)?;
        let defaults: Option<SampleDefaults> = init.map(|init| init.defaults);
        Ok(Self {
            duration: duration.or(defaults.map(|defaults| defaults.duration)),
            flags: sample_flags.or(defaults.map(|defaults| defaults.flags)),
        })
    }
}

/// `trun`: a run of samples.
struct Run {
    samples: u64,
    duration: u64,
    /// The flags of its first sample; `None` when it has none.
    first_flags: Option<u32>,
}

impl Run {
    fn read(trun: &IsoBox<'_>, header: &Header) -> Result<Self, CmafError> {
        let mut fields = trun.fields();
        let (_, flags) = fields.version_and_flags()?;
        let samples = fields.u32()?;
        fields.optional(flags, 0x01)?; // data offset
        let mut first_flags = fields.optional(flags, 0x04)?;
        let mut duration = 0u64;
        // Each turn reads at least four bytes: a count that cannot be true ends with the box.
        let stated = if flags & 0xf00 == 0 { 0 } else { samples };
        for _ in 0..stated {
            duration += u64::from(fields.optional(flags, 0x100)?.unwrap_or(0));
            fields.optional(flags, 0x200)?; // size
            let sample_flags = fields.optional(flags, 0x400)?;
            first_flags = first_flags.or(sample_flags);
            fields.optional(flags, 0x800)?; // composition offset
        }
        let unsaid = |value: Option<u32>, name| value.ok_or(trun.error(Fault::NeedsInit(name)));
        if samples == 0 {
            return Ok(Self { samples: 0, duration: 0, first_flags: None });
        }
        if flags & 0x100 == 0 {
            duration = u64::from(unsaid(header.duration, "the sample duration")?) * u64::from(samples);
        }
        let first_flags = match first_flags {
            Some(flags) => flags,
            None => unsaid(header.flags, "the sample flags")?,
        };
        Ok(Self { samples: samples.into(), duration, first_flags: Some(first_flags) })
    }
}
