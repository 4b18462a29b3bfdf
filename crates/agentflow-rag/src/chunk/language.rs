//! What has to be known of a language to find its sentences.

/// Bytes that are looked at to guess.
const SAMPLE: usize = 4_096;

/// A language, or what is done if it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Language(Option<&'static Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    tag: &'static str,
    /// Frequent short words, to recognise it.
    words: &'static [&'static str],
    /// Abbreviations that a sentence seldom ends with, in lower case, without their last dot.
    abbreviations: &'static [&'static str],
    /// Whether `3.` is the third.
    ordinals: bool,
}

const fn known(
    tag: &'static str,
    ordinals: bool,
    words: &'static [&'static str],
    abbreviations: &'static [&'static str],
) -> Known {
    Known {
        tag,
        words,
        abbreviations,
        ordinals,
    }
}

const KNOWN: [Known; 17] = [
    known(
        "en",
        false,
        &[
            "the", "and", "of", "to", "is", "that", "was", "with", "for", "it",
        ],
        &[
            "mr", "mrs", "ms", "dr", "prof", "st", "rev", "hon", "gen", "col", "capt", "lt", "sgt",
            "vs", "e.g", "i.e", "cf", "al", "fig", "figs", "eq", "sec", "ch", "vol", "no", "nos",
            "pp", "ed", "eds", "approx", "dept", "est", "inc", "ltd", "jr", "sr", "jan", "feb",
            "apr", "aug", "sept", "oct", "nov", "dec",
        ],
    ),
    known(
        "de",
        true,
        &[
            "der", "die", "und", "das", "ist", "nicht", "ein", "mit", "den", "auf",
        ],
        &[
            "dr", "prof", "hr", "fr", "st", "z.b", "z. b", "d.h", "d. h", "u.a", "u. a", "bzw",
            "ca", "vgl", "abb", "nr", "bd", "hrsg", "evtl", "ggf", "inkl", "max", "min", "mio",
            "mrd", "s", "str", "tel", "o.ä", "i.d.r", "sog", "z", "jan", "feb", "aug", "sept",
            "okt", "nov", "dez",
        ],
    ),
    known(
        "fr",
        false,
        &[
            "le", "la", "les", "et", "est", "des", "une", "dans", "que", "pour",
        ],
        &[
            "m", "mm", "mme", "mlle", "dr", "pr", "p. ex", "cf", "fig", "vol", "art", "chap", "env",
        ],
    ),
    known(
        "es",
        false,
        &[
            "el", "los", "las", "y", "que", "en", "del", "por", "una", "con",
        ],
        &[
            "sr", "sra", "srta", "dr", "dra", "ud", "uds", "p. ej", "pág", "núm", "art", "cap",
            "fig",
        ],
    ),
    known(
        "it",
        false,
        &[
            "il", "di", "che", "e", "la", "è", "per", "non", "sono", "della",
        ],
        &[
            "sig", "sigg", "sig.ra", "dott", "prof", "ing", "avv", "pag", "art", "cap", "fig", "es",
        ],
    ),
    known(
        "pt",
        false,
        &[
            "o", "os", "e", "que", "não", "uma", "para", "com", "do", "da",
        ],
        &[
            "sr", "sra", "dr", "dra", "prof", "pág", "art", "cap", "fig", "núm", "ex",
        ],
    ),
    known(
        "nl",
        false,
        &[
            "de", "het", "een", "en", "van", "is", "niet", "dat", "op", "te",
        ],
        &[
            "dhr", "mevr", "dr", "prof", "bijv", "d.w.z", "blz", "nr", "enz", "o.a", "ca", "mr",
        ],
    ),
    known(
        "sv",
        false,
        &[
            "och", "att", "det", "som", "en", "är", "på", "inte", "med", "för",
        ],
        &[
            "dr", "prof", "t.ex", "bl.a", "d.v.s", "s.k", "kl", "nr", "ca", "sid",
        ],
    ),
    known(
        "da",
        true,
        &[
            "og", "det", "at", "en", "er", "ikke", "på", "til", "af", "jeg",
        ],
        &[
            "dr", "prof", "f.eks", "bl.a", "dvs", "kl", "nr", "ca", "hr", "fr",
        ],
    ),
    known(
        "fi",
        true,
        &[
            "ja", "on", "ei", "se", "että", "oli", "mutta", "kun", "hän", "niin",
        ],
        &["esim", "ks", "ym", "mm", "n", "nk", "prof", "tri"],
    ),
    known(
        "pl",
        false,
        &["i", "w", "nie", "na", "się", "jest", "z", "do", "to", "że"],
        &[
            "dr", "prof", "np", "tzn", "tj", "ul", "nr", "r", "ok", "inż", "mgr", "im",
        ],
    ),
    known(
        "cs",
        true,
        &["a", "je", "se", "v", "na", "že", "to", "s", "z", "který"],
        &[
            "dr", "prof", "např", "tzv", "tj", "č", "str", "ul", "ing", "mgr",
        ],
    ),
    known(
        "tr",
        true,
        &[
            "ve", "bir", "bu", "da", "de", "için", "ile", "çok", "olarak", "gibi",
        ],
        &["dr", "prof", "doç", "av", "sn", "bkz", "örn", "vb", "no"],
    ),
    known(
        "ru",
        false,
        &["и", "в", "не", "на", "что", "он", "с", "как", "это", "по"],
        &[
            "г", "ул", "т.е", "т. е", "т.к", "т.д", "т.п", "др", "пр", "им", "рис", "см", "стр",
            "гл", "тыс", "млн", "млрд", "руб", "проф", "акад", "напр",
        ],
    ),
    known(
        "uk",
        false,
        &["і", "в", "не", "на", "що", "він", "з", "як", "це", "та"],
        &[
            "м", "вул", "т.д", "т.п", "ін", "рис", "див", "стор", "тис", "млн", "млрд", "грн",
            "проф",
        ],
    ),
    known(
        "el",
        false,
        &["και", "το", "να", "του", "η", "της", "με", "που"],
        &["π.χ", "κ", "κα", "δρ", "αρ", "σελ"],
    ),
    known("th", false, &[], &[]),
];

/// The language of a tag, or else that of the text.
pub(super) fn of(text: &str, tag: Option<&str>) -> Language {
    let by_tag = |tag: &str| KNOWN.iter().find(|known| known.tag == tag);
    if let Some(tag) = tag {
        let primary = tag
            .split(['-', '_'])
            .next()
            .unwrap_or_default()
            .to_lowercase();
        return Language(by_tag(&primary));
    }
    let mut end = text.len().min(SAMPLE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let sample = text[..end].to_lowercase();
    if sample.chars().any(is_unspaced) {
        return Language(by_tag("th"));
    }
    let votes = |known: &Known| {
        let words = sample.split(|c: char| !c.is_alphanumeric());
        words.filter(|word| known.words.contains(word)).count()
    };
    // The first of equal ones; nothing known is better than a guess out of nothing.
    let best = KNOWN.iter().rev().max_by_key(|known| votes(known));
    Language(best.filter(|best| votes(best) > 1))
}

/// Letters of scripts that have no spaces between words and no marks between sentences: Thai, Lao,
/// Khmer.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1780}'..='\u{17ff}')
}

impl Language {
    pub fn spaces_end_sentences(self) -> bool {
        self.0.is_some_and(|known| known.tag == "th")
    }

    /// A mark that ends questions and is something else elsewhere.
    pub fn question_mark(self) -> Option<&'static str> {
        (self.0?.tag == "el").then_some("; ")
    }

    /// Whether a sentence goes on, although Unicode's rules see its end between `before` and `next`.
    pub fn goes_on(self, before: &str, next: &str) -> bool {
        let before = before.trim_end();
        let Some(before) = before.strip_suffix('.') else {
            return false;
        };
        let start = before.rfind(|c: char| c.is_whitespace() || "([{\"'«„“‘".contains(c));
        let word = &before[start.map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        })..];
        if word.is_empty() {
            return false;
        }
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            let ordinals = self.0.is_some_and(|known| known.ordinals);
            return ordinals && word.len() <= 2 && next.starts_with(char::is_alphabetic);
        }
        // Initials: `J. Falk`, but not `than I. He`.
        let mut chars = word.chars();
        let initial = chars.next().is_some_and(char::is_uppercase) && chars.next().is_none();
        if initial && word != "I" && next.starts_with(char::is_uppercase) {
            return true;
        }
        let lower = word.to_lowercase();
        let Some(known) = self.0 else {
            return DOTTED.contains(&lower.as_str());
        };
        // `No. 7`, but not `She said no. He left`.
        if known.tag == "en"
            && matches!(lower.as_str(), "no" | "nos" | "ch" | "sec" | "fig" | "figs")
        {
            return next.starts_with(|c: char| c.is_ascii_digit());
        }
        // `p.m. on` is no end by Unicode's rules; `p.m. On` is.
        let two = before.rsplit(' ').take(2).collect::<Vec<_>>();
        let pair = match two[..] {
            [last, first] => format!("{first} {last}").to_lowercase(),
            _ => String::new(),
        };
        known.abbreviations.contains(&lower.as_str())
            || known.abbreviations.contains(&pair.as_str())
    }
}

/// Titles that are the same in many languages.
const DOTTED: [&str; 6] = ["dr", "prof", "mr", "mrs", "st", "fig"];
