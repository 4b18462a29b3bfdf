//! Recall and mean reciprocal rank.

use std::{collections::BTreeMap, time::Duration};

/// The ranks up to which evidence counts.
const RANKS: [usize; 5] = [1, 5, 10, 20, 50];

/// Sums of one way of searching.
#[derive(Default)]
struct Row {
    questions: usize,
    recall: [f64; RANKS.len()],
    reciprocal: f64,
    /// Questions and recall at 10, by category.
    categories: BTreeMap<u64, (usize, f64)>,
}

/// What was found out.
#[derive(Default)]
pub struct Report {
    rows: Vec<(&'static str, Row)>,
    times: Vec<Duration>,
}

impl Report {
    /// Adds the answer to one question.
    pub fn add(&mut self, name: &'static str, category: u64, evidence: &[usize], order: &[usize]) {
        let place = match self.rows.iter().position(|(known, _)| *known == name) {
            Some(place) => place,
            None => {
                self.rows.push((name, Row::default()));
                self.rows.len() - 1
            }
        };
        let row = &mut self.rows[place].1;
        let found = |most: usize| {
            let seen = &order[..most.min(order.len())];
            let found = evidence.iter().filter(|turn| seen.contains(turn)).count();
            found as f64 / evidence.len() as f64
        };
        row.questions += 1;
        for (sum, most) in row.recall.iter_mut().zip(RANKS) {
            *sum += found(most);
        }
        let first = order.iter().position(|turn| evidence.contains(turn));
        row.reciprocal += first.map_or(0.0, |first| 1.0 / (first + 1) as f64);
        let (questions, recall) = row.categories.entry(category).or_default();
        *questions += 1;
        *recall += found(10);
    }

    /// Adds the time of one search, the embedding of the question not included.
    pub fn took(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// Prints a table.
    pub fn print(&mut self) {
        let head: Vec<String> = RANKS.iter().map(|rank| format!("  R@{rank:<2}")).collect();
        println!("{:<12}{}   MRR   R@10 by category", "", head.concat());
        for (name, row) in &self.rows {
            let n = row.questions as f64;
            let recall: Vec<String> = row
                .recall
                .iter()
                .map(|sum| format!(" {:.3}", sum / n))
                .collect();
            let categories: Vec<String> = row
                .categories
                .iter()
                .map(|(category, (n, sum))| format!("{category}: {:.3}", sum / *n as f64))
                .collect();
            println!(
                "{name:<12}{}  {:.3}  {}",
                recall.concat(),
                row.reciprocal / n,
                categories.join("  ")
            );
        }
        self.times.sort_unstable();
        let questions = self.rows.first().map_or(0, |(_, row)| row.questions);
        if let Some(median) = self.times.get(self.times.len() / 2) {
            println!("{questions} questions; exact search and scoring: p50 {median:.1?}");
        }
    }
}
