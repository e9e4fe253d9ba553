//! Which namespaces to watch, in kopf's notation.

use std::collections::BTreeSet;
use std::str::FromStr;

use thiserror::Error;

/// One value of `--namespace`: a name, a pattern, or either with `!` before it to leave namespaces out.
///
/// In a pattern `*` stands for any text, `?` for one character and `[abc]` or `[!abc]` for one of, or none of,
/// these characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSelector {
    exclude: bool,
    pattern: String,
}

/// Text that no namespace can match.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "not a namespace or pattern: names have lower-case letters, digits and '-' only; patterns may have '*', '?', \
     '[abc]' and a leading '!'"
)]
pub struct InvalidNamespaceSelector;

impl FromStr for NamespaceSelector {
    type Err = InvalidNamespaceSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (exclude, pattern) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*?[!]".contains(c);
        let balanced = pattern.matches('[').count() == pattern.matches(']').count();
        if pattern.is_empty() || !pattern.chars().all(allowed) || !balanced {
            return Err(InvalidNamespaceSelector);
        }
        Ok(Self { exclude, pattern: pattern.to_owned() })
    }
}

impl NamespaceSelector {
    fn is_name(&self) -> bool {
        !self.exclude && !self.pattern.contains(['*', '?', '[', '!'])
    }
}

/// Which namespaces to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSelection {
    /// All of them.
    All,
    /// These.
    Names(BTreeSet<String>),
    /// Those that match; see [`NamespaceSelection::resolve`].
    Patterns(Vec<NamespaceSelector>),
}

impl NamespaceSelection {
    /// The selection that the values of `--namespace` make.
    #[must_use]
    pub fn new(selectors: &[NamespaceSelector]) -> Self {
        if selectors.is_empty() {
            Self::All
        } else if selectors.iter().all(NamespaceSelector::is_name) {
            Self::Names(selectors.iter().map(|selector| selector.pattern.clone()).collect())
        } else {
            Self::Patterns(selectors.to_vec())
        }
    }

    /// The names to watch, out of those that exist; `None` for all. Names given as such need not exist.
    ///
    /// As in kopf, each selector adds to, or with `!` removes from, what those before it selected; a selection
    /// that begins with `!` begins with all.
    #[must_use]
    pub fn resolve(&self, existing: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let selectors = match self {
            Self::All => return None,
            Self::Names(names) => return Some(names.clone()),
            Self::Patterns(selectors) => selectors,
        };
        let begins_with_all = selectors.first().is_some_and(|first| first.exclude);
        let mut chosen = if begins_with_all { existing.clone() } else { BTreeSet::new() };
        for selector in selectors {
            if selector.exclude {
                chosen.retain(|name| !matches(&selector.pattern, name));
            } else if selector.is_name() {
                chosen.insert(selector.pattern.clone());
            } else {
                chosen.extend(existing.iter().filter(|name| matches(&selector.pattern, name)).cloned());
            }
        }
        Some(chosen)
    }
}

/// Whether the whole name matches a pattern of the shell.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let Some(first) = rest.next() else { return name.is_empty() };
    let mut characters = name.chars();
    match first {
        '*' => {
            matches(rest.as_str(), name)
                || characters.next().is_some_and(|_| matches(pattern, characters.as_str()))
        }
        '[' => {
            let (set, after) = rest.as_str().split_once(']').unwrap_or((rest.as_str(), ""));
            let (negated, set) = set.strip_prefix('!').map_or((false, set), |set| (true, set));
            characters.next().is_some_and(|c| set.contains(c) != negated)
                && matches(after, characters.as_str())
        }
        _ => {
            let next = characters.next();
            next.is_some_and(|c| first == '?' || first == c) && matches(rest.as_str(), characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn selection(values: &[&str]) -> NamespaceSelection {
        let selectors: Vec<NamespaceSelector> = values.iter().map(|value| value.parse().unwrap()).collect();
        NamespaceSelection::new(&selectors)
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[rstest]
    #[case("team-*", "team-a", true)]
    #[case("team-*", "team-", true)]
    #[case("team-*", "steam-a", false)]
    #[case("*-prod", "eu-west-prod", true)]
    #[case("*-prod", "eu-prod-2", false)]
    #[case("t?am", "team", true)]
    #[case("t?am", "tam", false)]
    #[case("team-[ab]", "team-b", true)]
    #[case("team-[!ab]", "team-b", false)]
    #[case("team-[!ab]", "team-c", true)]
    #[case("*", "", true)]
    fn patterns_of_the_shell(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, name), expected);
    }

    #[test]
    fn names_alone_need_no_list() {
        assert_eq!(selection(&[]), NamespaceSelection::All);
        assert_eq!(selection(&["b", "a", "b"]), NamespaceSelection::Names(names(&["a", "b"])));
        assert_eq!(selection(&["b"]).resolve(&names(&[])), Some(names(&["b"])), "given by name");
        assert_eq!(selection(&[]).resolve(&names(&["a"])), None);
    }

    #[rstest]
    #[case(&["team-*"], &["team-a", "team-test"])]
    #[case(&["team-*", "!*-test"], &["team-a"])]
    #[case(&["!team-*"], &["default"])]
    #[case(&["team-*", "later"], &["later", "team-a", "team-test"])]
    #[case(&["nothing-*"], &[])]
    fn patterns_choose_from_what_exists(#[case] values: &[&str], #[case] expected: &[&str]) {
        let existing = names(&["default", "team-a", "team-test"]);
        assert_eq!(selection(values).resolve(&existing), Some(names(expected)));
    }

    #[rstest]
    #[case("Team")]
    #[case("a b")]
    #[case("")]
    #[case("!")]
    #[case("team-[a")]
    fn impossible_namespaces_are_refused(#[case] text: &str) {
        assert_eq!(text.parse::<NamespaceSelector>(), Err(InvalidNamespaceSelector));
    }
}
