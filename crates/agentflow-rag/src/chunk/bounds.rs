//! Where a text may be cut, and how good each place is.

use unicode_segmentation::UnicodeSegmentation;

use super::sentence;

/// How good a place to cut is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Paragraph,
    Line,
    Sentence,
    Word,
}

/// A place between two characters, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub at: u32,
    pub rank: Rank,
}

/// Places where a text may be cut, in order, each once; neither its start nor its end. None is
/// inside a grapheme.
#[derive(Debug)]
pub(super) struct Bounds(Vec<Bound>);

impl Bounds {
    /// The ends of paragraphs, lines, sentences and words.
    pub fn of(text: &str, language: Option<&str>) -> Self {
        let mut bounds = Vec::new();
        for (at, rank) in spaces(text) {
            bounds.push(Bound {
                at: at as u32,
                rank,
            });
        }
        let ends = sentence::ends(text, language);
        Self(merged(bounds, &ends)).whole_graphemes(text)
    }

    /// The ends of a separator, and words for what is too long.
    pub fn at_separator(text: &str, separator: &str) -> Self {
        let ends: Vec<usize> = text
            .match_indices(separator)
            .map(|(at, found)| at + found.len())
            .collect();
        let words = spaces(text).map(|(at, _)| Bound {
            at: at as u32,
            rank: Rank::Word,
        });
        Self(merged(words.collect(), &ends)).whole_graphemes(text)
    }

    /// All that is at least of a rank counts the same.
    pub fn equal_from(mut self, rank: Rank) -> Self {
        for bound in &mut self.0 {
            if bound.rank <= rank {
                bound.rank = Rank::Paragraph;
            }
        }
        self
    }

    /// Moves places behind a single space before it: there a token begins.
    pub fn before_spaces(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        for bound in &mut self.0 {
            let at = bound.at as usize;
            let single = at > 1 && bytes[at - 1] == b' ' && !bytes[at - 2].is_ascii_whitespace();
            // A space with a mark on it belongs to what follows.
            if single && text.is_char_boundary(at - 1) {
                bound.at -= 1;
            }
        }
        self.whole_graphemes(text)
    }

    /// The places in `from..=to`.
    pub fn within(&self, from: usize, to: usize) -> &[Bound] {
        let first = self.0.partition_point(|bound| (bound.at as usize) < from);
        let last = self.0.partition_point(|bound| (bound.at as usize) <= to);
        self.0.get(first..last).unwrap_or_default()
    }

    fn whole_graphemes(mut self, text: &str) -> Self {
        self.0.retain(|bound| {
            let at = bound.at as usize;
            at > 0 && at < text.len() && is_grapheme_start(text, at)
        });
        self
    }
}

/// Places behind white space: the end of a paragraph, of a line, of a word.
fn spaces(text: &str) -> impl Iterator<Item = (usize, Rank)> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (_, c) = chars.next()?;
            if !c.is_whitespace() {
                continue;
            }
            let mut breaks = usize::from(c == '\n');
            while let Some((_, c)) = chars.next_if(|(_, c)| c.is_whitespace()) {
                breaks += usize::from(c == '\n');
            }
            let (at, _) = *chars.peek()?;
            return Some((
                at,
                match breaks {
                    0 => Rank::Word,
                    1 => Rank::Line,
                    _ => Rank::Paragraph,
                },
            ));
        }
    })
}

/// Adds the ends of sentences. A place that is one already keeps the better rank.
fn merged(bounds: Vec<Bound>, ends: &[usize]) -> Vec<Bound> {
    let mut out = Vec::with_capacity(bounds.len() + ends.len());
    let mut ends = ends.iter().map(|at| *at as u32).peekable();
    for mut bound in bounds {
        while let Some(at) = ends.next_if(|at| *at < bound.at) {
            out.push(Bound {
                at,
                rank: Rank::Sentence,
            });
        }
        if ends.next_if_eq(&bound.at).is_some() {
            bound.rank = bound.rank.min(Rank::Sentence);
        }
        out.push(bound);
    }
    out.extend(ends.map(|at| Bound {
        at,
        rank: Rank::Sentence,
    }));
    out
}

/// Where paragraphs begin.
pub(super) fn paragraphs(text: &str) -> Vec<usize> {
    let inner = spaces(text).filter(|(_, rank)| *rank == Rank::Paragraph);
    let inner = inner
        .map(|(at, _)| at)
        .filter(|at| is_grapheme_start(text, *at));
    std::iter::once(0).chain(inner).collect()
}

/// Whether a grapheme begins at a byte behind white space or a mark of punctuation, which join
/// nothing before them. A byte inside a character is no start.
fn is_grapheme_start(text: &str, at: usize) -> bool {
    if at == 0 || at >= text.len() {
        return at == 0 || at == text.len();
    }
    if !text.is_char_boundary(at) {
        return false;
    }
    let mut cursor = unicode_segmentation::GraphemeCursor::new(at, text.len(), true);
    // The whole text is at hand, so there is no other answer.
    cursor.is_boundary(text, 0).unwrap_or(false)
}

/// The last place in `from..=to` between words, or else between graphemes, seen from `from` on; or,
/// if a grapheme reaches beyond `to`, its end. `from` is one such place, and `to` is beyond it.
pub(super) fn anywhere(text: &str, from: usize, to: usize) -> usize {
    // A little more than the window tells whether its end is inside a word.
    let mut end = (to + LOOK).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let window = &text[from..end];
    let whole = end == text.len();
    // What ends with the window may go on behind it.
    let last = |at: &usize| from + at <= to && (whole || from + at < end);
    let words = window
        .split_word_bound_indices()
        .map(|(at, word)| at + word.len());
    // Some scripts have marks that are words of their own and join what follows.
    let words: Vec<usize> = words.take_while(last).collect();
    if let Some(at) = words
        .iter()
        .rev()
        .find(|at| is_grapheme_start(window, **at))
    {
        return from + at;
    }
    let graphemes = window.grapheme_indices(true).map(|(at, it)| at + it.len());
    if let Some(at) = graphemes.take_while(last).last() {
        return from + at;
    }
    let first = text[from..].graphemes(true).next();
    from + first.map_or(0, str::len)
}

/// Bytes behind a window that are looked at.
const LOOK: usize = 64;
