//! Patterns for names, as in a shell: `*` for any characters, `?` for one. It never takes more than quadratic time.

/// Does `name` fit `pattern`?
pub fn fits(name: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut retry = None; // the pattern after the last star, and where in the name to try it next
    while at < name.len() {
        if pattern.get(next) == Some(&b'*') {
            next += 1;
            retry = Some((next, at + 1));
        } else if pattern.get(next).is_some_and(|c| *c == b'?' || *c == name[at]) {
            (at, next) = (at + 1, next + 1);
        } else if let Some((after, place)) = retry {
            (next, at) = (after, place);
            retry = Some((after, place + 1));
        } else {
            return false;
        }
    }
    pattern[next..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a pattern means, straight from its definition.
    fn naive(name: &[u8], pattern: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((b'*', after)), rest) => naive(name, after) || rest.is_some_and(|(_, rest)| naive(rest, pattern)),
            (Some((c, after)), Some((first, rest))) => (*c == b'?' || c == first) && naive(rest, after),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        let yes =
            [("sys_write", "sys_*"), ("sys_write", "*write"), ("a", "?"), ("", "*"), ("aXbXc", "a*b*c"), ("x", "x")];
        let no = [("sys_write", "sys"), ("a", "??"), ("abc", "a*b"), ("", "?"), ("x", "")];
        assert!(yes.iter().all(|(name, pattern)| fits(name.as_bytes(), pattern.as_bytes())));
        assert!(!no.iter().any(|(name, pattern)| fits(name.as_bytes(), pattern.as_bytes())));
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_it_says(name in "[ab]{0,8}", pattern in "[ab*?]{0,8}") {
            prop_assert_eq!(fits(name.as_bytes(), pattern.as_bytes()), naive(name.as_bytes(), pattern.as_bytes()));
        }
    }
}
