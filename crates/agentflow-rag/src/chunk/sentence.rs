//! Where sentences end: Unicode's rules, corrected by what is known of the language.
//!
//! Unicode knows the marks of all scripts, but not that `Dr.` ends no sentence, that a line which was
//! broken to fit a page goes on, or that Thai separates sentences by spaces.

use unicode_segmentation::UnicodeSegmentation;

use super::language::{self, Language};

/// Bytes of a paragraph that are looked at once. Longer ones are cut at a space.
const PIECE: usize = 64 << 10;

/// Where sentences end, in bytes behind the white space that follows, without the end of the text.
/// A blank line ends a sentence in any case.
///
/// `language`: a tag as in `de` or `pt-BR`; without it, the text is looked at.
pub fn ends(text: &str, language: Option<&str>) -> Vec<usize> {
    let language = language::of(text, language);
    // A line break inside a paragraph is a space of the same length, so that places stay the same.
    let flat = flat(text);
    let mut ends = Vec::new();
    let mut start = 0;
    for piece in pieces(&flat) {
        piece_ends(piece, start, language, &mut ends);
        start += piece.len();
        if start < text.len() && ends.last() != Some(&start) {
            ends.push(start);
        }
    }
    ends
}

/// The text with spaces for line breaks that only fit lines to a page.
fn flat(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let goes_on = lines.peek().is_some_and(|next| goes_on(line, next));
        match line.strip_suffix('\n') {
            Some(line) if goes_on => {
                out.push_str(line);
                out.push(' ');
            }
            _ => out.push_str(line),
        }
    }
    out
}

fn goes_on(line: &str, next: &str) -> bool {
    let (line, next) = (line.trim(), next.trim());
    if line.is_empty() || next.is_empty() {
        return false;
    }
    let item = |text: &str| {
        text.starts_with(['-', '*', '•', '–', '#', '|', '>'])
            || text
                .split_once(['.', ')'])
                .is_some_and(|(number, _)| number.parse::<u16>().is_ok())
    };
    !item(next) && !line.contains(" | ") && !next.contains(" | ")
}

/// Paragraphs, and parts of those that are too long.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        // Behind all line breaks.
        let paragraph = rest[..end].find("\n\n").map(|at| {
            let blank = rest[at..].len() - rest[at..].trim_start_matches('\n').len();
            at + blank
        });
        let end = match paragraph {
            Some(paragraph) => paragraph,
            None if end == rest.len() => end,
            None => rest[..end].rfind(' ').map_or(end, |at| at + 1),
        };
        let (piece, more) = rest.split_at(end);
        rest = more;
        Some(piece)
    })
}

fn piece_ends(piece: &str, start: usize, language: Language, ends: &mut Vec<usize>) {
    let mut at = 0;
    for sentence in piece.split_sentence_bounds() {
        let from = at;
        at += sentence.len();
        if language.spaces_end_sentences() {
            inner_ends(sentence, start + from, ends);
        }
        if let Some(mark) = language.question_mark() {
            let marks = sentence
                .match_indices(mark)
                .map(|(at, mark)| at + mark.len());
            let inside = marks.filter(|at| *at < sentence.trim_end().len());
            ends.extend(inside.map(|at| {
                let space = sentence[at..].len() - sentence[at..].trim_start().len();
                start + from + at + space
            }));
        }
        // Behind white space, before what opens the next sentence where no space does.
        let opens = sentence.len() - sentence.trim_end_matches(OPENING).len();
        let space = piece[at..].len() - piece[at..].trim_start().len();
        let end = at - opens + space;
        if end >= piece.len() {
            return;
        }
        let new = ends.last().is_none_or(|last| *last < start + end);
        if new && !language.goes_on(&piece[..at - opens], &piece[end..]) {
            ends.push(start + end);
        }
    }
}

/// Marks that Unicode's rules take for closing ones, too.
const OPENING: [char; 8] = ['「', '『', '（', '【', '《', '〈', '［', '〔'];

/// Spaces between letters of a script that has none between words.
fn inner_ends(sentence: &str, start: usize, ends: &mut Vec<usize>) {
    let mut before = None;
    for (at, c) in sentence.char_indices() {
        if c != ' ' {
            before = Some(c);
            continue;
        }
        let after = sentence[at + 1..].chars().next();
        if before.is_some_and(language::is_unspaced) && after.is_some_and(language::is_unspaced) {
            ends.push(start + at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ends;

    /// Sentences of a text are separated by `¦` in what is expected.
    fn check(language: Option<&str>, marked: &str) {
        let text = marked.replace('¦', "");
        let mut found = String::new();
        let mut last = 0;
        for end in ends(&text, language) {
            found += &text[last..end];
            found.push('¦');
            last = end;
        }
        found += &text[last..];
        assert_eq!(found, marked);
    }

    #[test]
    fn english() {
        check(
            None,
            "Dr. Berg met J. Falk at 3.30 p.m. on the pier. ¦\"Is it late?\" ¦She said no.",
        );
        check(
            Some("en"),
            "See Fig. 3 of vol. 2, e.g. the map. ¦It shows No. 7. ¦They left!",
        );
        check(
            None,
            "The ship was\nlate again. ¦Nobody\nknew why.\n\n¦A new paragraph",
        );
        check(None, "It costs 3.5 million. ¦Well... ¦Perhaps.");
        check(None, "Points:\n¦- one\n¦- two\n¦1. three");
        check(None, "a | b\n¦c | d\n");
    }

    #[test]
    fn other_languages() {
        check(
            Some("de"),
            "Am 3. Oktober kam z. B. Frau Dr. Ott. ¦Sie blieb bis zum 12. Mai. ¦Gut.",
        );
        check(
            Some("fr"),
            "M. Dupont est là. ¦Où est Mme. Petit ? ¦Elle dort.",
        );
        check(
            Some("es"),
            "El Sr. Ruiz llegó. ¦¿Dónde está la Sra. Gil? ¦No sé.",
        );
        check(
            Some("ru"),
            "Он жил в г. Москве на ул. Лесной. ¦Потом уехал.",
        );
        check(Some("el"), "Πού είναι; ¦Δεν ξέρω.");
        check(Some("hi"), "यह एक वाक्य है। ¦यह दूसरा है।");
        check(Some("ar"), "أين السفينة؟ ¦وصلت أمس.");
    }

    #[test]
    fn scripts_without_spaces() {
        check(
            None,
            "港の朝は早い。¦船が三隻、沖へ出る。¦「どこへ？」¦と聞いた。",
        );
        check(None, "天气很好。¦我们去港口！¦你来吗？¦来。");
        check(Some("th"), "เรือมาแล้ว ¦เราจะไปที่ท่าเรือ");
    }
}
