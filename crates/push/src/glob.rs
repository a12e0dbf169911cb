//! Patterns with `*` and `?`, and words in a text.
//!
//! Specified in [CS-API §conditions-1] and the appendix on glob-style matching. Upper and lower case are the same, by
//! Unicode's simple lowering. Patterns come from one stranger and texts from another, so work is counted: see [`Fuel`].

use std::cell::Cell;

/// How many comparisons of characters one event may cost one user. A text of 60,000 letters and thirty patterns stay
/// below; patterns made to be slow run dry after some milliseconds, and what has not matched by then does not match.
pub const STEPS_MAX: u32 = 2_000_000;

/// What is left of [`STEPS_MAX`].
#[derive(Debug)]
pub(crate) struct Fuel(Cell<i64>);

impl Fuel {
    pub(crate) fn new() -> Self {
        Self(Cell::new(STEPS_MAX.into()))
    }

    /// `false` when it has run dry.
    fn burn(&self, steps: usize) -> bool {
        self.0.set(self.0.get().saturating_sub(i64::try_from(steps).unwrap_or(i64::MAX)));
        !self.is_dry()
    }

    fn is_dry(&self) -> bool {
        self.0.get() <= 0
    }
}

/// Lower case, as the characters are compared.
pub(crate) fn lowered(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A pattern, cut at its stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// Between the stars; `None` stands for any one character. A pattern without stars has one segment.
    segments: Vec<Vec<Option<char>>>,
    /// The whole pattern, if it has no `*` and no `?`: the fast path of nearly all rules.
    literal: Option<Box<str>>,
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let segment = |part: &str| lowered(part).into_iter().map(|c| (c != '?').then_some(c)).collect();
        let literal = (!pattern.contains(['*', '?'])).then(|| pattern.to_lowercase().into());
        Self { segments: pattern.split('*').map(segment).collect(), literal }
    }

    /// A pattern that means exactly this text: stars are stars.
    pub(crate) fn exact(text: &str) -> Self {
        let segment = lowered(text).into_iter().map(Some).collect();
        Self { segments: vec![segment], literal: Some(text.to_lowercase().into()) }
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str, fuel: &Fuel) -> bool {
        match &self.literal {
            Some(literal) if literal.is_ascii() && text.is_ascii() => literal.eq_ignore_ascii_case(text),
            Some(literal) => **literal == text.to_lowercase(),
            None => {
                let text = lowered(text);
                self.search(&text, fuel, |start| start == 0, |end| end == text.len())
            }
        }
    }

    /// Whether some part of the text that begins and ends at a word boundary matches. The text is [`lowered`].
    pub(crate) fn matches_words(&self, text: &[char], fuel: &Fuel) -> bool {
        let is_empty = self.segments.iter().all(Vec::is_empty) && self.segments.len() == 1;
        let is_edge = |position| is_boundary(text, position);
        !is_empty && self.search(text, fuel, is_edge, is_edge)
    }

    /// Finds a match that begins and ends where it may.
    ///
    /// For all segments but the last, the leftmost place where they fit is as good as any: it leaves the most room for
    /// the rest. The last one is tried at every place, since it must also end well.
    fn search(&self, text: &[char], fuel: &Fuel, begins: impl Fn(usize) -> bool, ends: impl Fn(usize) -> bool) -> bool {
        let Some((last, leading)) = self.segments.split_last() else { return false };
        let mut from = 0;
        for (index, segment) in leading.iter().enumerate() {
            // An empty first segment is a leading star, which reaches back to the beginning of the text.
            let is_first = index == 0 && !segment.is_empty();
            match find(text, segment, from, fuel, |start| !is_first || begins(start)) {
                Some(start) => from = start + segment.len(),
                None => return false,
            }
        }
        // An empty last segment is a trailing star, which reaches to the end of the text.
        if last.is_empty() && !leading.is_empty() {
            return true;
        }
        let fits = |start: usize| (!leading.is_empty() || begins(start)) && ends(start + last.len());
        find(text, last, from, fuel, fits).is_some()
    }
}

/// The leftmost place at or after `from` where the segment stands and `fits` agrees.
fn find(
    text: &[char],
    segment: &[Option<char>],
    from: usize,
    fuel: &Fuel,
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let last_start = text.len().checked_sub(segment.len())?;
    (from..=last_start).take_while(|_| !fuel.is_dry()).find(|&start| {
        let mut pairs = segment.iter().zip(&text[start..]);
        let differs = pairs.position(|(wanted, found)| wanted.is_some_and(|wanted| wanted != *found));
        fuel.burn(1 + differs.unwrap_or(segment.len())) && differs.is_none() && fits(start)
    })
}

/// The start or end of the text, or beside any character that is not part of a word. [CS-API §conditions-1]
fn is_boundary(text: &[char], position: usize) -> bool {
    let is_word = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
    let before = position.checked_sub(1).and_then(|index| text.get(index));
    !(before.is_some_and(is_word) && text.get(position).is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches(text, &Fuel::new())
    }

    fn words(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).matches_words(&lowered(text), &Fuel::new())
    }

    #[test]
    fn a_pattern_matches_the_whole_value() {
        for (pattern, text, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "M.Room.Message", true),
            ("m.room.message", "m.room.message.extra", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("*", "anything", true),
            ("lunc?*", "Lunch plans", true),
            ("lunc?*", "LUNCH", true),
            ("lunc?*", " lunch", false),
            ("lunc?*", "lunc", false),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYYcZ", false),
            ("*.example.org", "matrix.example.org", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("ab*b", "abb", true),
            ("\u{e4}rger", "\u{c4}RGER", true),
            ("?", "\u{1f414}", true),
        ] {
            assert_eq!(whole(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_pattern_in_the_body_matches_between_word_boundaries() {
        for (pattern, text, expected) in [
            ("ex*ple", "An example event.", true),
            ("ex*ple", "exple", true),
            ("ex*ple", "An exciting triple-whammy", true),
            ("cake", "I like cake", true),
            ("cake", "CAKE!", true),
            ("cake", "cakes", false),
            ("cake", "pancake", false),
            ("cake", "pan_cake", false),
            ("cake", "cakes and cake", true),
            ("cake", "pan-cake", true),
            ("*cake", "pancake", true),
            ("cake*", "cakes", true),
            ("foo*bar", "xfoo bar foo bary", false),
            ("foo*bar", "xfoo foo bary bar.", true),
            ("", "anything", false),
            ("@room", "hey @room!", true),
            ("caf\u{e9}", "un caf\u{e9} noir", true),
        ] {
            assert_eq!(words(pattern, text), expected, "{pattern} in {text}");
        }
    }

    #[test]
    fn an_exact_glob_takes_stars_for_stars() {
        let name = Glob::exact("*star*");
        assert!(name.matches_words(&lowered("hello *Star*, how are you"), &Fuel::new()));
        assert!(!name.matches_words(&lowered("hello you"), &Fuel::new()));
        assert!(!Glob::exact("").matches_words(&lowered("hello"), &Fuel::new()));
    }

    #[test]
    fn patterns_made_to_be_slow_run_out_of_fuel() {
        let text = lowered(&"a".repeat(60_000));
        let fuel = Fuel::new();
        let slow = Glob::new(&format!("{}b", "a".repeat(250)));
        assert!(!slow.matches_words(&text, &fuel));
        assert!(!fuel.burn(1), "it used all it had");
        for _ in 0..1_000 {
            assert!(!slow.matches_words(&text, &fuel));
        }
        assert!(fuel.0.get() > -1_000, "and nothing is compared after that: {fuel:?}");
        assert!(!Glob::new("a*").matches_words(&text, &fuel), "and nothing matches after that");
    }
}
