//! One parameter of a query string.

/// The text of a parameter that stands there exactly once; `None` if it is absent.
///
/// # Errors
/// [`Malformed`]: it stands there twice, an escape is none, or what is escaped is no printable ASCII.
pub(crate) fn parameter(query: &str, name: &str) -> Option<Result<String, Malformed>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let first = found.next()?;
    let only = if found.next().is_none() { unescape(first) } else { None };
    Some(only.ok_or(Malformed))
}

/// The parameter cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

fn unescape(text: &str) -> Option<String> {
    let (mut bytes, mut plain) = (text.bytes(), String::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => digit(bytes.next()?)? * 16 + digit(bytes.next()?)?,
            other => other,
        };
        if !matches!(byte, b' '..=b'~') {
            return None;
        }
        plain.push(char::from(byte));
    }
    Some(plain)
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_its_name_unescaped() {
        let read = |query: &str| parameter(query, "CMCD");
        let good = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(read(""), None);
        assert_eq!(read("CMCD"), None);
        assert_eq!(read("cmcd=su&XCMCD=su"), None);
        assert_eq!(read("CMCD="), good(""));
        assert_eq!(read("a=b&CMCD=bl%3D100%2Csu&c"), good("bl=100,su"));
        assert_eq!(read("CMCD=nor%3d%22..%252F1.m4s%22"), good("nor=\"..%2F1.m4s\""));
        for bad in ["CMCD=su&CMCD=su", "CMCD=%", "CMCD=%4", "CMCD=%4g", "CMCD=%0a", "CMCD=%c3%a9", "CMCD=%7f"]
        {
            assert_eq!(read(bad), Some(Err(Malformed)), "{bad}");
        }
    }
}
