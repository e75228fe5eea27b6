//! Languages: containers speak ISO 639-2, playlists RFC 5646, viewers neither.

/// ISO 639-2 codes, the RFC 5646 tag that stands for them, and the language's own name.
const LANGUAGES: &[(&[&str], &str, &str)] = &[
    (&["ara"], "ar", "العربية"),
    (&["bul"], "bg", "Български"),
    (&["ces", "cze"], "cs", "Čeština"),
    (&["dan"], "da", "Dansk"),
    (&["deu", "ger"], "de", "Deutsch"),
    (&["ell", "gre"], "el", "Ελληνικά"),
    (&["eng"], "en", "English"),
    (&["est"], "et", "Eesti"),
    (&["fin"], "fi", "Suomi"),
    (&["fra", "fre"], "fr", "Français"),
    (&["heb"], "he", "עברית"),
    (&["hin"], "hi", "हिन्दी"),
    (&["hrv"], "hr", "Hrvatski"),
    (&["hun"], "hu", "Magyar"),
    (&["ind"], "id", "Bahasa Indonesia"),
    (&["isl", "ice"], "is", "Íslenska"),
    (&["ita"], "it", "Italiano"),
    (&["jpn"], "ja", "日本語"),
    (&["kor"], "ko", "한국어"),
    (&["lav"], "lv", "Latviešu"),
    (&["lit"], "lt", "Lietuvių"),
    (&["nld", "dut"], "nl", "Nederlands"),
    (&["nob"], "nb", "Norsk bokmål"),
    (&["nor"], "no", "Norsk"),
    (&["pol"], "pl", "Polski"),
    (&["por"], "pt", "Português"),
    (&["ron", "rum"], "ro", "Română"),
    (&["rus"], "ru", "Русский"),
    (&["slk", "slo"], "sk", "Slovenčina"),
    (&["slv"], "sl", "Slovenščina"),
    (&["spa"], "es", "Español"),
    (&["srp"], "sr", "Српски"),
    (&["swe"], "sv", "Svenska"),
    (&["tha"], "th", "ไทย"),
    (&["tur"], "tr", "Türkçe"),
    (&["ukr"], "uk", "Українська"),
    (&["vie"], "vi", "Tiếng Việt"),
    (&["zho", "chi"], "zh", "中文"),
];

/// The shortest tag for what a container says; `und` for what is no language.
#[must_use]
pub fn shortest(tag: &str) -> String {
    let tag = tag.to_ascii_lowercase();
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    match LANGUAGES.iter().find(|(long, ..)| long.contains(&primary)) {
        Some((_, short, _)) => (*short).to_owned(),
        None if (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_lowercase()) => {
            primary.to_owned()
        }
        None => "und".to_owned(),
    }
}

/// What a player's menu shows for a tag; a tag that is not in the table shows as it is.
#[must_use]
pub fn display_name(tag: &str) -> &str {
    let primary = tag.split('-').next().unwrap_or_default();
    match LANGUAGES.iter().find(|(_, short, _)| *short == primary) {
        Some((_, _, name)) if primary == tag => name,
        _ => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_names() {
        for (said, short) in [
            ("eng", "en"),
            ("ENG", "en"),
            ("ger", "de"),
            ("pt-BR", "pt"),
            ("en_US", "en"),
            ("mul", "mul"),
            ("", "und"),
            ("english", "und"),
            ("e1", "und"),
        ] {
            assert_eq!(shortest(said), short, "{said:?}");
        }
        assert_eq!(
            (display_name("de"), display_name("pt-br"), display_name("tlh")),
            ("Deutsch", "pt-br", "tlh")
        );
    }
}
