//! The contract between the planes: playback tokens and the JSON of the API.
