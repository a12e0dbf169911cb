//! A text being typed: letters as people count them, a cursor, several lines. Pasted text may hold anything; it is kept as it
//! is and shown harmless.

use unicode_segmentation::UnicodeSegmentation;

/// Bytes that can be typed or pasted into one field.
const TEXT_MAX: usize = 40_000;

/// A text and where the cursor is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Editor {
    text: String,
    /// Byte offset, on a boundary of a grapheme.
    cursor: usize,
}

impl Editor {
    /// A text with the cursor at its end.
    pub fn new(text: &str) -> Self {
        let mut editor = Self::default();
        editor.insert(text);
        editor
    }

    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is before the cursor.
    pub fn before(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the text away.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Puts text in at the cursor, as much as fits.
    pub fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut end = text.len().min(TEXT_MAX.saturating_sub(self.text.len()));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.insert_str(self.cursor, &text[..end]);
        self.cursor += end;
        self.settle();
    }

    /// After an insertion the cursor may be inside a grapheme that was made by it.
    fn settle(&mut self) {
        if !self.text.grapheme_indices(true).any(|(at, _)| at == self.cursor) && self.cursor != self.text.len() {
            self.right();
        }
    }

    /// One letter back.
    pub fn left(&mut self) {
        self.cursor = self.previous();
    }

    /// One letter on.
    pub fn right(&mut self) {
        self.cursor = self.next();
    }

    /// To the beginning of the line.
    pub fn home(&mut self) {
        self.cursor = self.before().rfind('\n').map_or(0, |at| at + 1);
    }

    /// To the end of the line.
    pub fn end(&mut self) {
        self.cursor = self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at);
    }

    /// Removes the letter before the cursor.
    pub fn backspace(&mut self) {
        let from = self.previous();
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    /// Removes the letter after the cursor.
    pub fn delete(&mut self) {
        let to = self.next();
        self.text.replace_range(self.cursor..to, "");
        self.settle();
    }

    /// Removes the word before the cursor.
    pub fn delete_word(&mut self) {
        let kept = self
            .before()
            .trim_end()
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + self.text[at..].chars().next().map_or(1, char::len_utf8));
        self.text.replace_range(kept..self.cursor, "");
        self.cursor = kept;
    }

    fn previous(&self) -> usize {
        self.before().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn next(&self) -> usize {
        self.text[self.cursor..].graphemes(true).next().map_or(self.cursor, |letter| self.cursor + letter.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_are_what_people_count() {
        let mut editor = Editor::new("a👩‍👩‍👧e\u{301}");
        editor.backspace();
        assert_eq!(editor.text(), "a👩‍👩‍👧");
        editor.backspace();
        assert_eq!(editor.text(), "a");
        editor.insert(" word after");
        editor.delete_word();
        assert_eq!(editor.text(), "a word ");
    }

    #[test]
    fn a_paste_of_any_size_is_bounded() {
        let editor = Editor::new(&"ü".repeat(TEXT_MAX));
        assert!(editor.text().len() <= TEXT_MAX);
    }

    proptest! {
        #[test]
        fn any_editing_of_any_text_keeps_the_cursor_between_letters(text in any::<String>(), strokes in prop::collection::vec((0..8_u8, any::<String>()), 0..40)) {
            let mut editor = Editor::new(&text);
            for (stroke, text) in strokes {
                match stroke {
                    0 => editor.left(),
                    1 => editor.right(),
                    2 => editor.home(),
                    3 => editor.end(),
                    4 => editor.backspace(),
                    5 => editor.delete(),
                    6 => editor.delete_word(),
                    _ => editor.insert(&text),
                }
                prop_assert!(editor.text.is_char_boundary(editor.cursor));
            }
        }
    }
}
