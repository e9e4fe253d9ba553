//! Text of a peer, made fit to be kept, compared, logged and shown.

use std::fmt::Write;

/// Longest text of a peer that is kept, in bytes: names, addresses, identifiers, the text of an exception. Dask's own
/// addresses and generated names have less than 100.
pub const LONGEST: usize = 256;

/// Stands at the end of what was cut.
const CUT: &str = "…";

/// The text with at most `longest` bytes and without characters that begin a line, move a cursor or change the
/// direction of writing: those are escaped as Rust does, so nobody can forge a line of a log.
#[must_use]
pub fn printable(text: &str, longest: usize) -> String {
    let mut result = String::with_capacity(text.len().min(longest));
    // Where a cut leaves room for its mark.
    let mut safe = 0;
    for character in text.chars() {
        if is_harmless(character) {
            result.push(character);
        } else {
            // Writing to memory does not fail.
            let _ = write!(result, "{}", character.escape_default());
        }
        if result.len() > longest {
            result.truncate(safe);
            if longest >= CUT.len() {
                result.push_str(CUT);
            }
            return result;
        }
        if result.len() + CUT.len() <= longest {
            safe = result.len();
        }
    }
    result
}

/// Whether a character stays where it is put: no control character, no separator of lines, no change of direction.
fn is_harmless(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !turns
}

/// Whether this can be the address of a worker: short, and visible ASCII only.
pub(crate) fn is_address(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("KeyError('x')", 20, "KeyError('x')")]
    #[case("one\ntwo\r\n\tthree", 99, "one\\ntwo\\r\\n\\tthree")]
    #[case("\u{1b}[31mred", 99, "\\u{1b}[31mred")]
    #[case("a\u{2028}b\u{202e}c\u{85}", 99, "a\\u{2028}b\\u{202e}c\\u{85}")]
    #[case("größe", 99, "größe")]
    #[case("abcdef", 6, "abcdef")]
    #[case("abcdefg", 6, "abc…")]
    #[case("ab\n\n\n", 7, "ab\\n…")]
    #[case("öööö", 6, "ö…")]
    #[case("abc", 2, "")]
    #[case("", 0, "")]
    fn it_is_cut_and_escaped(#[case] text: &str, #[case] longest: usize, #[case] expected: &str) {
        assert_eq!(printable(text, longest), expected);
    }

    #[rstest]
    #[case("tcp://10.0.0.7:40331", true)]
    #[case("tls://[fd00::7]:40331", true)]
    #[case("", false)]
    #[case("tcp://10.0.0.7:1\n", false)]
    #[case("tcp://10.0.0.7:1 ", false)]
    #[case("tcp://größe:1", false)]
    fn addresses(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_address(text), expected);
        assert!(is_address(&"a".repeat(LONGEST)) && !is_address(&"a".repeat(LONGEST + 1)));
    }

    proptest! {
        #[test]
        fn nothing_is_longer_or_starts_a_line(text in ".{0,80}|[\\s\\S]{0,80}", longest in 0_usize..100) {
            let result = printable(&text, longest);
            prop_assert!(result.len() <= longest, "{result:?}");
            prop_assert!(result.chars().all(is_harmless), "{result:?}");
        }
    }
}
