//! Subtitles: what is said, with the time at which it begins.

use super::blocks::Writer;
use crate::refusal::Refusal;

/// Bytes of text after which a block ends with its cue.
const BLOCK: usize = 400;

/// SubRip and WebVTT: cues are separated by blank lines, each with a line of times.
pub(crate) fn read(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let text = super::blocks::clean(text);
    let mut block = String::new();
    for cue in text.split("\n\n") {
        let mut lines = cue.lines().skip_while(|line| !line.contains("-->"));
        // Headers, notes and styles have no times.
        let Some(times) = lines.next() else {
            continue;
        };
        let start = times.split("-->").next().and_then(milliseconds);
        let said: Vec<String> = lines
            .map(untagged)
            .filter(|line| !line.is_empty())
            .collect();
        if said.is_empty() {
            continue;
        }
        if block.len() >= BLOCK {
            out.paragraph(&block)?;
            block.clear();
        }
        if block.is_empty() {
            out.place.start_ms = start;
        } else {
            block.push('\n');
        }
        block.push_str(&said.join("\n"));
    }
    out.paragraph(&block)?;
    out.place.start_ms = None;
    Ok(())
}

/// `01:02:03,456` or `02:03.456`.
fn milliseconds(time: &str) -> Option<u64> {
    let (clock, fraction) = time.trim().split_once([',', '.'])?;
    let seconds = clock.split(':').try_fold(0_u64, |sum, part| {
        sum.checked_mul(60)?.checked_add(part.trim().parse().ok()?)
    })?;
    let fraction: u64 = fraction.get(..3)?.parse().ok()?;
    Some(seconds.checked_mul(1_000)? + fraction)
}

/// A line without `<i>` and its like.
fn untagged(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, tag)) = rest.split_once('<') {
        out.push_str(before);
        let Some((_, after)) = tag.split_once('>') else {
            out.push('<');
            out.push_str(tag);
            return out.trim().to_owned();
        };
        rest = after;
    }
    out.push_str(rest);
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_tags() {
        assert_eq!(milliseconds("00:01:02,500 "), Some(62_500));
        assert_eq!(milliseconds("01:02.003"), Some(62_003));
        assert_eq!(milliseconds("soon"), None);
        assert_eq!(untagged("<v Ann>a <i>b</i> < c"), "a b < c");
    }
}
