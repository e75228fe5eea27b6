//! The initialisation section: `moov`.

use super::reader::{IsoBox, boxes};
use super::{CmafError, Fault, FourCc, INPUT};

/// What an initialisation section says about its one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// The track's number.
    pub track: u32,
    /// Ticks per second of the track's times; never 0.
    pub timescale: u32,
    /// What the track carries.
    pub handler: Handler,
    /// The type of its first sample entry: `avc1`, `mp4a`, `wvtt`.
    pub codec: FourCc,
    /// What fragments may leave unsaid.
    pub defaults: SampleDefaults,
}

/// `hdlr`: what a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handler {
    /// `vide`.
    Video,
    /// `soun`.
    Audio,
    /// `text`, `subt`.
    Text,
    /// Something else.
    Other(FourCc),
}

/// `trex`: the values of samples for which a fragment states none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleDefaults {
    /// In ticks; 0 when every fragment is to state its own.
    pub duration: u32,
    /// In bytes; 0 when every fragment is to state its own.
    pub size: u32,
    /// Sample flags (ISO/IEC 14496-12 section 8.8.3.1).
    pub flags: u32,
}

impl Init {
    /// Reads the `moov` of an initialisation section, or of the front of a whole file.
    ///
    /// # Errors
    /// [`CmafError`] when there is no `moov`, it is cut off, or it describes no or several tracks.
    pub fn parse(bytes: &[u8]) -> Result<Self, CmafError> {
        let moov = first(bytes, *b"moov")?;
        let trak = moov.child(*b"trak")?;
        let mdia = trak.child(*b"mdia")?;
        let stbl = mdia.child(*b"minf")?.child(*b"stbl")?;
        let track = track(&trak.child(*b"tkhd")?)?;
        Ok(Self {
            track,
            timescale: timescale(&mdia.child(*b"mdhd")?)?,
            handler: handler(&mdia.child(*b"hdlr")?)?,
            codec: codec(&stbl.child(*b"stsd")?)?,
            defaults: defaults(&moov.child(*b"mvex")?.child(*b"trex")?, track)?,
        })
    }
}

/// The first box of a type at the top level. What stands behind it is not looked at, so that the front of a
/// file is enough.
pub(super) fn first(bytes: &[u8], kind: [u8; 4]) -> Result<IsoBox<'_>, CmafError> {
    for item in boxes(bytes) {
        let item = item?;
        if item.kind == FourCc(kind) {
            return Ok(item);
        }
    }
    Err(CmafError { at: 0, kind: INPUT, fault: Fault::Missing(FourCc(kind)) })
}

fn track(tkhd: &IsoBox<'_>) -> Result<u32, CmafError> {
    let mut fields = tkhd.fields();
    let (version, _) = fields.version_and_flags()?;
    fields.wide(version)?; // creation time
    fields.wide(version)?; // modification time
    fields.u32()
}

fn timescale(mdhd: &IsoBox<'_>) -> Result<u32, CmafError> {
    let mut fields = mdhd.fields();
    let (version, _) = fields.version_and_flags()?;
    fields.wide(version)?; // creation time
    fields.wide(version)?; // modification time
    match fields.u32()? {
        0 => Err(mdhd.error(Fault::Value("time scale"))),
        timescale => Ok(timescale),
    }
}

fn handler(hdlr: &IsoBox<'_>) -> Result<Handler, CmafError> {
    let mut fields = hdlr.fields();
    fields.version_and_flags()?;
    fields.u32()?; // pre-defined
    Ok(match &fields.array()? {
        b"vide" => Handler::Video,
        b"soun" => Handler::Audio,
        b"text" | b"subt" => Handler::Text,
        other => Handler::Other(FourCc(*other)),
    })
}

fn codec(stsd: &IsoBox<'_>) -> Result<FourCc, CmafError> {
    let mut fields = stsd.fields();
    fields.version_and_flags()?;
    fields.u32()?; // how many
    match fields.boxes().next() {
        Some(entry) => Ok(entry?.kind),
        None => Err(stsd.error(Fault::Missing(FourCc(*b"avc1")))),
    }
}

fn defaults(trex: &IsoBox<'_>, track: u32) -> Result<SampleDefaults, CmafError> {
    let mut fields = trex.fields();
    fields.version_and_flags()?;
    if fields.u32()? != track {
        return Err(trex.error(Fault::Value("track")));
    }
    fields.u32()?; // sample description
    Ok(SampleDefaults { duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? })
}
