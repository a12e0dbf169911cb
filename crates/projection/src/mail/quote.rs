//! What of a plain text is said, and what is quoted tail and signature. [RFC 3676]
//!
//! | in the mail | |
//! |---|---|
//! | `On Monday Bob wrote:` and `>` lines to the end | quoted |
//! | `> ` lines with answers between them | said: the answers make no sense without |
//! | `-----Original Message-----`, or headers written out, to the end | quoted |
//! | `-- ` and what follows | signature |
//! | lines of format=flowed that end with a space | one line |

/// A text in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What the author says.
    pub said: String,
    /// What they say it about.
    pub quoted: String,
    /// How they sign.
    pub signature: String,
}

/// Lines of a signature; longer ones are none.
const SIGNATURE_LINES_MAX: usize = 15;
/// How the headers begin that programs write out above what they quote, in the languages of the common ones.
const FROM: &[&str] =
    &["From:", "Von:", "De :", "De:", "Da:", "Van:", "От:", "发件人:", "差出人:", "Od:", "Från:", "Fra:"];
/// How others begin that follow such a line.
const AFTER_FROM: &[&str] = &[
    "Sent:",
    "Date:",
    "To:",
    "Subject:",
    "Gesendet:",
    "Datum:",
    "An:",
    "Betreff:",
    "Envoyé",
    "À :",
    "À:",
    "Objet",
    "Enviado",
    "Para:",
    "Asunto:",
    "Inviato:",
    "A:",
    "Oggetto:",
    "Verzonden:",
    "Aan:",
    "Onderwerp:",
    "Отправлено:",
    "Кому:",
    "发送时间:",
    "送信日時:",
    "Wysłano:",
    "Do:",
    "Skickat:",
    "Till:",
    "Sendt:",
    "Til:",
];

/// Takes a text apart.
pub fn parts(text: &str) -> Parts {
    let text = text.replace("\r\n", "\n");
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let tail = tail(&lines);
    let (above, quoted) = lines.split_at(tail.unwrap_or(lines.len()));
    let (said, signature) = above.split_at(signature(above).unwrap_or(above.len()));
    let join = |lines: &[&str]| lines.join("\n").trim_matches('\n').trim_end().to_owned();
    let parts = Parts { said: join(said), quoted: join(quoted), signature: join(signature) };
    match parts.said.trim().is_empty() {
        // A mail that quotes and says nothing, as one that is passed on: then that is what it says.
        true => Parts { said: join(&lines), ..Parts::default() },
        false => parts,
    }
}

/// Where what is quoted begins that nothing is said below.
fn tail(lines: &[&str]) -> Option<usize> {
    let written_out = lines.iter().enumerate().position(|(at, line)| {
        is_original_mark(line)
            || (is_header(line, FROM) && lines.iter().skip(at + 1).take(3).any(|line| is_header(line, AFTER_FROM)))
    });
    if let Some(at) = written_out {
        // A line of underscores stands above it in Outlook.
        let rule = at.checked_sub(1).filter(|above| is_rule(lines.get(*above).copied().unwrap_or_default()));
        return Some(rule.unwrap_or(at));
    }
    // From the end upwards: what is blank, what is quoted, and a signature below that.
    let mut end = lines.len();
    if let Some(at) = signature(lines)
        && lines.get(..at).is_some_and(|above| {
            above.iter().rev().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with('>'))
        })
    {
        end = at;
    }
    let mut at = end;
    let mut is_quoted = false;
    while let Some(line) = at.checked_sub(1).and_then(|above| lines.get(above)) {
        match line {
            line if line.starts_with('>') => is_quoted = true,
            line if line.trim().is_empty() => {}
            _ => break,
        }
        at -= 1;
    }
    if !is_quoted {
        return None;
    }
    // The line that says whose words they are, which some programs fold into two.
    let above = lines.get(..at).unwrap_or_default();
    let said_by = above.iter().rposition(|line| !line.trim().is_empty());
    if let Some(last) = said_by.filter(|last| lines.get(*last).is_some_and(|line| line.trim_end().ends_with(':'))) {
        let first = last.checked_sub(1).filter(|first| {
            lines.get(*first).is_some_and(|line| {
                ["On ", "Am ", "Le ", "El ", "Il ", "Op ", "Em "].iter().any(|word| line.starts_with(word))
                    && !line.ends_with('.')
            })
        });
        at = first.unwrap_or(last);
    }
    Some(at)
}

fn is_header(line: &str, names: &[&str]) -> bool {
    let line = line.trim_start_matches(['>', ' ', '*']);
    names.iter().any(|name| line.starts_with(name))
}

/// `-----Original Message-----` in whatever language.
fn is_original_mark(line: &str) -> bool {
    let line = line.trim();
    let inner = line.trim_matches('-').trim();
    line.starts_with("-----") && line.ends_with("-----") && !inner.is_empty() && inner.chars().count() < 60
}

fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 10 && line.chars().all(|c| c == '_')
}

/// Where a signature begins.
fn signature(lines: &[&str]) -> Option<usize> {
    let at = lines.iter().rposition(|line| *line == "-- " || *line == "--")?;
    (lines.len() - at <= SIGNATURE_LINES_MAX && at + 1 < lines.len()).then_some(at)
}

/// Lines that were folded for the wire, as they were. `del_sp`: the space at the end of a line was added too. [RFC 3676 §4]
pub fn unflowed(text: &str, del_sp: bool) -> String {
    let mut lines: Vec<(usize, String, bool)> = Vec::new();
    for line in text.replace("\r\n", "\n").lines() {
        let depth = line.bytes().take_while(|byte| *byte == b'>').count();
        let inner = line.get(depth..).unwrap_or_default();
        let inner = inner.strip_prefix(' ').unwrap_or(inner);
        let flows = inner.ends_with(' ') && inner != "-- ";
        let kept = if flows && del_sp { inner.get(..inner.len() - 1).unwrap_or_default() } else { inner };
        match lines.last_mut() {
            Some((above, text, true)) if *above == depth && inner != "-- " => {
                text.push_str(kept);
                if let Some(last) = lines.last_mut() {
                    last.2 = flows;
                }
            }
            _ => lines.push((depth, kept.to_owned(), flows)),
        }
    }
    let written = lines.into_iter().map(|(depth, text, _)| match depth {
        0 => {
            if text == "-- " {
                text
            } else {
                text.trim_end().to_owned()
            }
        }
        depth => format!("{} {}", ">".repeat(depth), text.trim_end()),
    });
    written.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, said: &str, quoted: &str, signature: &str) {
        let expected = Parts { said: said.into(), quoted: quoted.into(), signature: signature.into() };
        assert_eq!(parts(text), expected, "{text}");
    }

    #[test]
    fn what_programs_quote_below_an_answer_is_found() {
        check(
            "Yes!\r\n\r\nOn Mon, 3 Nov 2026, Bob <bob@e.org> wrote:\r\n> Lunch?\r\n> Bob\r\n",
            "Yes!",
            "On Mon, 3 Nov 2026, Bob <bob@e.org> wrote:\n> Lunch?\n> Bob",
            "",
        );
        check(
            "Ja.\n\nAm 3. November 2026 um 10:00 schrieb Bob\n<bob@e.org>:\n\n> Essen?\n",
            "Ja.",
            "Am 3. November 2026 um 10:00 schrieb Bob\n<bob@e.org>:\n\n> Essen?",
            "",
        );
        check(
            "Ok\n\n-----Original Message-----\nFrom: Bob\nSent: Monday\n\nLunch?",
            "Ok",
            "-----Original Message-----\nFrom: Bob\nSent: Monday\n\nLunch?",
            "",
        );
        check(
            "Ok\n\n________________________________\nVon: Bob\nGesendet: Montag\nAn: Alice\n\nEssen?",
            "Ok",
            "________________________________\nVon: Bob\nGesendet: Montag\nAn: Alice\n\nEssen?",
            "",
        );
        check(
            "Fine\n-- \nAlice\n+1 555\n\nOn Monday Bob wrote:\n> x",
            "Fine",
            "On Monday Bob wrote:\n> x",
            "-- \nAlice\n+1 555",
        );
        check("Fine\n\nBob wrote:\n> x\n\n-- \nAlice", "Fine", "Bob wrote:\n> x\n\n-- \nAlice", "");
    }

    #[test]
    fn answers_between_quotes_stay_with_them() {
        let text = "> one?\nyes\n> two?\nno";
        check(text, text, "", "");
        check("> old\n\nnew below", "> old\n\nnew below", "", "");
    }

    #[test]
    fn a_mail_that_only_quotes_says_that() {
        check("> all of it", "> all of it", "", "");
        check("", "", "", "");
        check("From: my heart\nI love you", "From: my heart\nI love you", "", "");
    }

    #[test]
    fn folded_lines_are_one() {
        assert_eq!(unflowed("a \r\nb\r\nc\r\n-- \r\nsig", false), "a b\nc\n-- \nsig");
        assert_eq!(unflowed("a \nb", true), "ab");
        assert_eq!(unflowed("> x \n> y\n>> z \nw ", false), "> x y\n>> z\nw");
        assert_eq!(unflowed(" >not a quote", false), ">not a quote");
    }

    proptest! {
        #[test]
        fn nothing_of_a_text_is_lost(text in "(>{0,2}[a-z: \\-]{0,12}\n){0,12}") {
            let parts = parts(&text);
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            let together = [&parts.said, &parts.signature, &parts.quoted].map(|part| solid(part)).concat();
            prop_assert_eq!(together, solid(&text));
        }

        #[test]
        fn any_text_can_be_read(text in ".{0,200}") {
            let _ = (parts(&text), unflowed(&text, true));
        }
    }
}
