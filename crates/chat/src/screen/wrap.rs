//! Breaking text into lines that fit, by the width letters take on a terminal.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Lines one text may take; the rest is cut, visibly.
const LINES_MAX: usize = 400;

/// The lines of a text, none wider than `width`. At least one, even of nothing; of width nothing, one that is empty.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    if width == 0 {
        return vec![String::new()];
    }
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut row = String::new();
        let mut taken = 0;
        for word in line.split_word_bounds() {
            let wide = word.width();
            if taken + wide <= width {
                row.push_str(word);
                taken += wide;
                continue;
            }
            if taken > 0 {
                lines.push(std::mem::take(&mut row));
                taken = 0;
            }
            if word.trim().is_empty() {
                continue;
            }
            for letter in word.graphemes(true) {
                let wide = letter.width();
                if taken + wide > width && taken > 0 {
                    lines.push(std::mem::take(&mut row));
                    taken = 0;
                }
                if wide <= width {
                    row.push_str(letter);
                    taken += wide;
                }
            }
        }
        lines.push(row);
        if lines.len() > LINES_MAX {
            lines.truncate(LINES_MAX);
            lines.push("…".to_owned());
            break;
        }
    }
    lines
}

/// One line, cut with a mark if it does not fit.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut row = String::new();
    let mut taken = 1;
    for letter in text.graphemes(true) {
        taken += letter.width();
        if taken > width {
            break;
        }
        row.push_str(letter);
    }
    if width > 0 {
        row.push('…');
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_whole_where_they_can() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_it_may_be(text in any::<String>(), width in 0..40_usize) {
            let text = crate::harmless::text(&text);
            for line in wrap(&text, width) {
                prop_assert!(line.width() <= width.max(1));
            }
            prop_assert!(cut(&text, width).width() <= width.max(1));
        }
    }
}
