//! Conversations in LoCoMo's format.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result};
use jiff::civil::{Date, DateTime};
use serde_json::Value;

/// A conversation.
pub struct Conversation {
    pub turns: Vec<Turn>,
    pub facts: Vec<Fact>,
    pub questions: Vec<Question>,
    /// Day of its last session.
    pub last_day: Date,
}

/// Something said.
pub struct Turn {
    pub speaker: String,
    /// What was said, and what was shown.
    pub text: String,
    pub session: u64,
    pub day: Date,
}

/// An observation.
pub struct Fact {
    pub text: String,
    pub sources: Vec<usize>,
    pub session: u64,
    pub day: Date,
}

/// A question and the turns that answer it.
pub struct Question {
    pub text: String,
    pub evidence: Vec<usize>,
    pub category: u64,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<Conversation>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: Vec<Value> = serde_json::from_str(&text).context("not LoCoMo's format")?;
    all.iter().map(conversation).collect()
}

fn conversation(value: &Value) -> Result<Conversation> {
    let talk = &value["conversation"];
    let mut turns = Vec::new();
    let mut ids = HashMap::new();
    let mut days = HashMap::new();
    let sessions = (1..).take_while(|n| !talk[format!("session_{n}_date_time")].is_null());
    for session in sessions {
        let day = day(&talk[format!("session_{session}_date_time")])?;
        days.insert(session, day);
        for turn in list(&talk[format!("session_{session}")]) {
            let id = turn["dia_id"].as_str().context("a turn without an id")?;
            ids.insert(numbers(id).context("an odd id")?, turns.len());
            let mut text = turn["text"].as_str().unwrap_or_default().to_owned();
            if let Some(caption) = turn["blip_caption"].as_str() {
                text += &format!(" [shares {caption}]");
            }
            turns.push(Turn {
                speaker: turn["speaker"].as_str().unwrap_or_default().to_owned(),
                text,
                session,
                day,
            });
        }
    }
    Ok(Conversation {
        facts: facts(&value["observation"], &ids, &days),
        questions: questions(&value["qa"], &ids),
        last_day: days.values().copied().max().context("no session")?,
        turns,
    })
}

fn facts(
    observations: &Value,
    ids: &HashMap<(u64, u64), usize>,
    days: &HashMap<u64, Date>,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (session, day) in days {
        let by_speaker = observations[format!("session_{session}_observation")].as_object();
        for pair in by_speaker
            .into_iter()
            .flatten()
            .flat_map(|(_, facts)| list(facts))
        {
            facts.push(Fact {
                text: pair[0].as_str().unwrap_or_default().to_owned(),
                sources: turns(&pair[1], ids),
                session: *session,
                day: *day,
            });
        }
    }
    facts.sort_by(|a, b| (a.session, &a.text).cmp(&(b.session, &b.text)));
    facts
}

fn questions(qa: &Value, ids: &HashMap<(u64, u64), usize>) -> Vec<Question> {
    let questions = list(qa).iter().map(|entry| Question {
        text: entry["question"].as_str().unwrap_or_default().to_owned(),
        evidence: turns(&entry["evidence"], ids),
        category: entry["category"].as_u64().unwrap_or_default(),
    });
    questions
        .filter(|question| !question.evidence.is_empty())
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The turns whose ids stand anywhere in a value; strings may hold several.
fn turns(value: &Value, ids: &HashMap<(u64, u64), usize>) -> Vec<usize> {
    let strings = match value {
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    let mut found = Vec::new();
    for part in strings
        .iter()
        .flat_map(|s| s.split(|c: char| !(c.is_alphanumeric() || c == ':')))
    {
        if let Some(turn) = numbers(part).and_then(|id| ids.get(&id))
            && !found.contains(turn)
        {
            found.push(*turn);
        }
    }
    found
}

/// `D3:7` as 3 and 7.
fn numbers(id: &str) -> Option<(u64, u64)> {
    let (session, turn) = id.trim().strip_prefix('D')?.split_once(':')?;
    Some((session.parse().ok()?, turn.parse().ok()?))
}

/// `1:56 pm on 8 May, 2023`.
fn day(value: &Value) -> Result<Date> {
    let text = value.as_str().unwrap_or_default();
    let time = DateTime::strptime("%I:%M %p on %d %B, %Y", text);
    Ok(time.with_context(|| format!("an odd date: {text}"))?.date())
}
