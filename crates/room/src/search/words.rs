//! Words of a text, in every script.
//!
//! Letters, digits and the marks upon them make a word; upper case, width and composition do not matter (NFKC). Chinese,
//! Japanese, Korean, Thai and their neighbours write without spaces between words, or join much to them: there each sign and
//! each pair of signs is a word, and whoever looks for a longer run looks for its pairs.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Longest word that is kept; longer ones are known by their beginning.
const WORD_BYTES_MAX: usize = 64;
/// Different words of one text that are kept.
pub(super) const WORDS_MAX: usize = 600;
/// Characters of a text that are looked at.
const TEXT_CHARS_MAX: usize = 20_000;
/// Words that one question may have.
const ASKED_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq)]
enum Run {
    Word(String),
    Signs(Vec<char>),
}

/// What a text is found by.
pub(super) fn of_text(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for run in runs(text) {
        match run {
            Run::Word(word) => _ = words.insert(cut(word)),
            Run::Signs(signs) => {
                words.extend(signs.iter().map(char::to_string));
                words.extend(signs.windows(2).map(|pair| pair.iter().collect::<String>()));
            }
        }
        if words.len() >= WORDS_MAX {
            break;
        }
    }
    words
}

/// What a text has to be found by to answer a question, each once, in the order of the question.
pub(super) fn of_question(question: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |word: String| {
        if words.len() < ASKED_MAX && !words.contains(&word) {
            words.push(word);
        }
    };
    for run in runs(question) {
        match run {
            Run::Word(word) => add(cut(word)),
            Run::Signs(signs) if signs.len() == 1 => add(signs[0].to_string()),
            Run::Signs(signs) => signs.windows(2).for_each(|pair| add(pair.iter().collect())),
        }
    }
    words
}

/// The words of a question as people see them, for showing them in what is found.
pub(super) fn to_highlight(question: &str) -> Vec<String> {
    let shown = runs(question).into_iter().map(|run| match run {
        Run::Word(word) => word,
        Run::Signs(signs) => signs.into_iter().collect(),
    });
    shown.take(ASKED_MAX).collect()
}

/// How many of the words of a text are those of a question, and how many it has: for telling what fits better.
pub(super) fn count(text: &str, asked: &[String]) -> (usize, usize) {
    let (mut hits, mut all) = (0, 0);
    for run in runs(text) {
        let mut see = |word: &str| {
            all += 1;
            hits += usize::from(asked.iter().any(|asked| asked == word));
        };
        match run {
            Run::Word(word) => see(&cut(word)),
            Run::Signs(signs) if signs.len() == 1 => see(&signs[0].to_string()),
            Run::Signs(signs) => signs.windows(2).for_each(|pair| see(&pair.iter().collect::<String>())),
        }
    }
    (hits, all)
}

fn runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut word, mut signs) = (String::new(), Vec::new());
    for letter in text.chars().take(TEXT_CHARS_MAX).nfkc().flat_map(char::to_lowercase) {
        let is_sign = is_sign(letter);
        if !is_sign && !word.is_empty() && is_combining_mark(letter) {
            word.push(letter);
            continue;
        }
        // A mark upon a sign, as in Thai, is a sign of its own.
        let is_letter = !is_sign && letter.is_alphanumeric();
        if !is_letter && !word.is_empty() {
            runs.push(Run::Word(std::mem::take(&mut word)));
        }
        if !is_sign && !signs.is_empty() {
            runs.push(Run::Signs(std::mem::take(&mut signs)));
        }
        if is_letter {
            word.push(letter);
        } else if is_sign {
            signs.push(letter);
        }
    }
    if !word.is_empty() {
        runs.push(Run::Word(word));
    }
    if !signs.is_empty() {
        runs.push(Run::Signs(signs));
    }
    runs
}

/// Letters of scripts that do not put spaces between words, or join much to them.
fn is_sign(letter: char) -> bool {
    matches!(u32::from(letter),
        0x0E01..=0x0E4E | 0x0E81..=0x0ECD | 0x1000..=0x109F | 0x1780..=0x17D3 // Thai, Lao, Burmese, Khmer
        | 0x1100..=0x11FF | 0xAC00..=0xD7FF // Korean
        | 0x3005..=0x3007 | 0x3041..=0x3096 | 0x309D..=0x30FA | 0x30FC..=0x30FF | 0x31F0..=0x31FF // Japanese
        | 0x3105..=0x312F | 0x31A0..=0x31BF // Bopomofo
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF) // Chinese
}

fn cut(mut word: String) -> String {
    if word.len() > WORD_BYTES_MAX {
        let end = (0..=WORD_BYTES_MAX).rev().find(|&end| word.is_char_boundary(end));
        word.truncate(end.unwrap_or(0));
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(text: &str, question: &str) -> bool {
        let words = of_text(text);
        let asked = of_question(question);
        !asked.is_empty() && asked.iter().all(|word| words.contains(word))
    }

    #[test]
    fn texts_are_found_in_every_script() {
        for (text, question) in [
            ("Hello, World!", "hello"),
            ("Hello, World!", "WORLD hello"),
            ("Grüße aus Köln", "grüße KÖLN"),
            ("Gru\u{308}ße", "grüße"),
            ("Привет, мир", "ПРИВЕТ"),
            ("Γειά σου Κόσμε", "κόσμε"),
            ("مرحبا بالعالم", "مرحبا"),
            ("שלום עולם", "שלום"),
            ("नमस्ते दुनिया", "नमस्ते"),
            ("今日は天気がいい", "天気"),
            ("今日は天気がいい", "気"),
            ("我们明天见面吧", "明天见"),
            ("안녕하세요 여러분", "안녕"),
            ("สวัสดีชาวโลก", "ชาวโลก"),
            ("version 1.12 of ｆｕｌｌ width", "full 12"),
            ("naïve café", "café"),
            ("𠀋𠮷", "𠮷"),
        ] {
            assert!(is_found(text, question), "{question} in {text}");
        }
    }

    #[test]
    fn whole_words_are_found_and_not_their_parts() {
        for (text, question) in [
            ("Message number 14", "4"),
            ("hello", "hell"),
            ("one two", "one three"),
            ("天気", "電気"),
            ("anything", "..."),
            ("anything", ""),
        ] {
            assert!(!is_found(text, question), "{question} in {text}");
        }
    }

    #[test]
    fn long_texts_and_words_have_bounds() {
        let long = "x".repeat(10_000);
        assert!(is_found(&long, &long));
        assert!(of_text(&long).iter().all(|word| word.len() <= WORD_BYTES_MAX));
        let many: String = (0..50_000).map(|number| format!("w{number} ")).collect();
        assert!(of_text(&many).len() <= WORDS_MAX);
        assert!(of_question(&many).len() <= ASKED_MAX);
    }

    #[test]
    fn more_of_the_words_asked_for_is_a_better_answer() {
        let asked = of_question("cats dogs");
        assert_eq!(count("cats and dogs and cats", &asked), (3, 5));
        assert_eq!(count("", &asked), (0, 0));
        assert_eq!(to_highlight("Cats & 天気予報"), ["cats", "天気予報"]);
    }
}
