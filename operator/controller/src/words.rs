//! Words of others, as messages quote them.

use std::borrow::Cow;
use std::fmt::Write;

/// Most bytes of the kubelet's, the scheduler's or a container's words that are quoted.
const MAX_WORDS: usize = 400;
/// Most bytes of a name of others that is shown. Kubernetes' own have 253 at most, and images no limit at all.
const MAX_NAME: usize = 256;

/// The name, or as much of it as is shown.
#[must_use]
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_NAME {
        return name.into();
    }
    format!("{}…", &name[..name.floor_char_boundary(MAX_NAME)]).into()
}

/// `: words`, on one line and not too long; nothing when there are none.
#[must_use]
pub(crate) fn quoted(words: Option<&str>) -> String {
    let words = words.unwrap_or_default();
    // Not more is looked at than can be shown, however much there is.
    let words = &words[..words.floor_char_boundary(4 * MAX_WORDS)];
    let mut quoted = String::new();
    for word in words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let _ = write!(quoted, "{}{word}", if quoted.is_empty() { ": " } else { " " });
    }
    if quoted.len() > MAX_WORDS {
        quoted.truncate(quoted.floor_char_boundary(MAX_WORDS));
        quoted.push('…');
    }
    quoted.truncate(quoted.trim_end_matches('.').len());
    quoted
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(None, "")]
    #[case::empty(Some(" \n"), "")]
    #[case::lines(Some("one\n\ttwo \u{1b}[31m"), ": one two [31m")]
    #[case::full_stop(Some("no room."), ": no room")]
    fn words_on_one_line(#[case] words: Option<&str>, #[case] expected: &str) {
        assert_eq!(quoted(words), expected);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shortened(&"x".repeat(MAX_NAME)), "x".repeat(MAX_NAME));
        let cut = shortened(&"é".repeat(300_000)).into_owned();
        assert_eq!(cut, format!("{}…", "é".repeat(MAX_NAME / 2)));
    }

    #[test]
    fn long_words_are_cut() {
        for words in ["é".repeat(1 << 20), " x".repeat(1 << 20), " ".repeat(1 << 20)] {
            assert!(quoted(Some(&words)).len() <= MAX_WORDS + '…'.len_utf8());
        }
    }
}
