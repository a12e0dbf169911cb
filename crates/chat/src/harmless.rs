//! Text of strangers, made harmless for a terminal. Names and messages may hold escape sequences that repaint the screen,
//! overrides that turn sentences around, and marks that nobody sees; what is shown passes through here, always.
//!
//! Left alone: letters of every script, emoji and what joins them. Nothing is dropped silently: a character that would act
//! on the terminal is replaced by one that shows that it was there.

/// Combining marks on one letter that are still shown. The languages of the world need three or four.
const MARKS_MAX: usize = 4;
/// Characters of a message that are prepared for showing. The rest is cut, visibly.
const SHOWN_MAX: usize = 20_000;

/// A message: several lines, tabs as spaces.
pub fn text(from: &str) -> String {
    shown(from, true)
}

/// A name, a topic, anything that has one line.
pub fn line(from: &str) -> String {
    shown(from, false)
}

fn shown(from: &str, lines: bool) -> String {
    let mut out = String::with_capacity(from.len());
    let mut marks = 0;
    for (count, letter) in from.chars().enumerate() {
        if count == SHOWN_MAX {
            out.push('…');
            break;
        }
        marks = if is_mark(letter) { marks + 1 } else { 0 };
        match letter {
            '\n' | '\u{2028}' | '\u{2029}' if lines => out.push('\n'),
            '\n' | '\u{2028}' | '\u{2029}' => out.push('␤'),
            '\t' => out.push_str("    "),
            '\r' if lines => {}
            _ if marks > MARKS_MAX => {}
            _ => out.push(replacement(letter)),
        }
    }
    out
}

/// What is shown for one character.
fn replacement(letter: char) -> char {
    match letter {
        // C0 and DEL have pictures.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + letter as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '␡',
        letter if acts(letter) => '\u{fffd}',
        other => other,
    }
}

/// Whether a character does something to its surroundings instead of being seen: C1 controls (one of them begins escape
/// sequences), direction marks, overrides and isolates, invisible joiners and fillers, annotations, tags.
pub fn acts(letter: char) -> bool {
    matches!(letter,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
        | '\u{17b4}' | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_and_overrides_are_seen_and_not_obeyed() {
        assert_eq!(line("\u{1b}[2Jhello\u{7}"), "␛[2Jhello␇");
        assert_eq!(line("\u{9b}31m"), "\u{fffd}31m");
        assert_eq!(line("photo\u{202e}gpj.exe"), "photo\u{fffd}gpj.exe");
        assert_eq!(line("two\nlines"), "two␤lines");
        assert_eq!(text("two\r\nlines"), "two\nlines");
    }

    #[test]
    fn ordinary_writing_stays_as_it_is() {
        for fine in ["Grüße", "שלום", "नमस्ते", "👩‍👩‍👧 ok", "e\u{301}", "日本語", "❤\u{fe0f}"]
        {
            assert_eq!(line(fine), fine);
        }
    }

    #[test]
    fn towers_of_marks_are_cut() {
        let tower = format!("a{}", "\u{336}".repeat(500));
        assert_eq!(line(&tower).chars().count(), 1 + MARKS_MAX);
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(from in any::<String>()) {
            prop_assert!(!line(&from).chars().any(acts));
            prop_assert!(!text(&from).chars().any(|letter| letter != '\n' && acts(letter)));
        }

        #[test]
        fn what_is_harmless_stays_harmless(from in any::<String>()) {
            let once = text(&from);
            prop_assert_eq!(text(&once), once.clone());
            prop_assert!(once.chars().count() <= SHOWN_MAX * 4 + 1);
        }
    }
}
