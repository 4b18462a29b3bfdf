//! Memories: us and Mem0's library over the same texts, without a model.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{json_lines, machine, median, probe};
use crate::{
    install,
    shell::{cache, output, program, root},
};

/// Where the report goes.
const FILE: &str = "benchmarks-memory.md";
/// Different texts; more memories than that repeat them with a number.
const TEXTS: usize = 20_000;
/// Questions, twice as many as are measured warm.
const QUESTIONS: usize = 2_000;

/// What the texts are made of.
const WHO: [&str; 16] = [
    "Anna", "Bruno", "Chiara", "Dmitri", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jonas",
    "Kofi", "Lena", "Mateo", "Nadia", "Omar", "Priya",
];
const DOES: [&str; 10] = [
    "likes",
    "bought",
    "repaired",
    "lost",
    "dreams of",
    "is afraid of",
    "paints",
    "sold",
    "wrote about",
    "collects",
];
const WHAT: [&str; 14] = [
    "green tea",
    "an old bicycle",
    "wooden boats",
    "a violin",
    "black cats",
    "oil paintings",
    "mountain soup",
    "chess books",
    "a red tent",
    "paper maps",
    "tall ships",
    "wild mushrooms",
    "a film camera",
    "roses",
];
const WHERE: [&str; 12] = [
    "Lisbon", "Oslo", "Kyoto", "Quito", "Berlin", "Nairobi", "Boston", "Prague", "Mumbai",
    "Sydney", "Dublin", "Naples",
];
const WHEN: [&str; 8] = [
    "last summer",
    "in May",
    "every Sunday",
    "since childhood",
    "with two friends",
    "after work",
    "before dawn",
    "at school",
];

/// Options of the bench of memories.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each runs both sides.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Memories of one user that are there.
    #[arg(long, default_value_t = 10_000)]
    memories: usize,
    /// Also measure us once with so many; the peer would take hours.
    #[arg(long)]
    many: Option<usize>,
    /// Also measure both with their index on this Qdrant server.
    #[arg(long)]
    qdrant: Option<String>,
}

/// Results by side, case and metric.
type Samples = BTreeMap<(&'static str, String, String), Vec<f64>>;

struct Bench {
    python: PathBuf,
    ours: PathBuf,
    folder: PathBuf,
    samples: Samples,
    probes: Vec<(f64, f64)>,
}

/// `cargo xtask bench memory`.
pub fn run(args: &Args) -> Result<()> {
    let python = install::mem0_python()?;
    let (ours, _) = super::programs()?;
    let folder = cache().join("bench").join("memory");
    fs::create_dir_all(&folder)?;
    write_texts(&folder)?;
    let mut bench = Bench {
        python,
        ours,
        folder,
        samples: Samples::new(),
        probes: vec![],
    };
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        bench.probes.push(probe(&bench.folder)?);
        let mut sides = vec![("AgentFlow", None), ("Mem0", None)];
        if let Some(url) = &args.qdrant {
            sides.push(("AgentFlow, Qdrant", Some(url.as_str())));
            sides.push(("Mem0, Qdrant", Some(url.as_str())));
        }
        // Who comes first finds the disk and the caches as the other one left them.
        if round % 2 == 0 {
            sides.reverse();
        }
        for (side, url) in sides {
            bench.measure(side, args.memories, url)?;
        }
    }
    if let Some(many) = args.many {
        println!("{many} memories");
        bench.measure("many", many, None)?;
    }
    let text = bench.report(args)?;
    println!("{text}");
    fs::write(root().join("docs").join(FILE), text)?;
    Ok(())
}

impl Bench {
    fn measure(&mut self, side: &'static str, memories: usize, url: Option<&str>) -> Result<()> {
        let place = self.folder.join("run");
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        let (texts, questions) = (self.folder.join("texts"), self.folder.join("questions"));
        let mut command = if side.starts_with("Mem0") {
            let mut command = program(&self.python);
            command.arg("clients/mem0/peer/memory.py");
            command.args([&place, &texts, &questions]);
            command.args(url.iter().flat_map(|url| ["--url", url]));
            command
        } else {
            let mut command = program(&self.ours);
            command.arg("memory").arg("--folder").arg(&place);
            command.arg("--texts").arg(&texts);
            command.arg("--questions").arg(&questions);
            command.args(url.iter().flat_map(|url| ["--qdrant", url]));
            command
        };
        command.args(["--memories", &memories.to_string()]);
        for line in json_lines(&mut command)? {
            let case = line["case"].as_str().context("no case")?.to_owned();
            for (metric, value) in line.as_object().context("no case")? {
                if let Some(value) = value.as_f64() {
                    let key = (side, case.clone(), metric.clone());
                    self.samples.entry(key).or_default().push(value);
                }
            }
        }
        fs::remove_dir_all(&place)?;
        Ok(())
    }

    fn of(&self, side: &'static str, case: &str, metric: &str) -> f64 {
        let key = (side, case.to_owned(), metric.to_owned());
        median(self.samples.get(&key).map_or(&[], Vec::as_slice))
    }

    fn report(&self, args: &Args) -> Result<String> {
        let mut out = String::new();
        let versions = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ['mem0ai', 'qdrant-client']))";
        let peer = output(program(&self.python).args(["-c", versions]))?;
        let date = output(program("date").arg("+%Y-%m-%d"))?;
        let loops = self.probes.iter().map(|probe| format!("{:.0}", probe.1));
        let loops: Vec<String> = loops.collect();
        let many = args
            .many
            .map_or(String::new(), |many| format!(" --many {many}"));
        writeln!(out, "# Memories, measured")?;
        writeln!(
            out,
            "\nWritten by `cargo xtask bench memory --rounds {} --memories {}{many}` on {date}: \
             both sides in turn in each round, as libraries in one process, one caller unless \
             said otherwise, medians. Memories are sentences that are kept as they are \
             (`infer=false`); vectors of 384 numbers are made by hash, so that no model is \
             measured. Mem0 keeps its index in a folder of the process, its default, and none of \
             its optional language packages is there; ours is SQLite.\n",
            args.rounds, args.memories,
        )?;
        writeln!(out, "- Peer: {peer}")?;
        writeln!(out, "- Machine: {}", machine()?)?;
        writeln!(
            out,
            "- A fixed loop took {} ms in the rounds: the closer these are, the quieter the \
             machine was.\n\n## {} memories of one user\n",
            loops.join(", "),
            args.memories,
        )?;
        self.pair(&mut out, ("AgentFlow", "Mem0"))?;
        if args.qdrant.is_some() {
            writeln!(out, "\n## The index on a Qdrant server\n")?;
            self.pair(&mut out, ("AgentFlow, Qdrant", "Mem0, Qdrant"))?;
        }
        if let Some(many) = args.many {
            writeln!(out, "\n## {many} memories of one user\n")?;
            let of = |case, metric| self.of("many", case, metric);
            writeln!(
                out,
                "| | |\n|---|---|\n\
                 | stored in batches of 100, a second | {:.0} |\n\
                 | links of the graph made after that, s | {:.0} |\n\
                 | search p50 / p99, ms | {:.1} / {:.1} |\n\
                 | search that nobody asked before p50 / p99, ms | {:.1} / {:.1} |\n\
                 | adds a second, one writer | {:.0} |\n\
                 | memory of the process, MB | {:.0} |",
                of("fill", "per_second"),
                of("start", "links_s"),
                of("search", "p50_ms"),
                of("search", "p99_ms"),
                of("search_cold", "p50_ms"),
                of("search_cold", "p99_ms"),
                of("add_1", "per_second"),
                of("memory", "rss_mb"),
            )?;
        }
        Ok(out)
    }

    fn pair(&self, out: &mut String, (ours, theirs): (&'static str, &'static str)) -> Result<()> {
        writeln!(out, "| | AgentFlow | Mem0 | ratio |\n|---|---|---|---|")?;
        for (name, case, metric, is_better_high) in [
            ("search p50, ms", "search", "p50_ms", false),
            ("search p99, ms", "search", "p99_ms", false),
            ("adds a second, one writer", "add_1", "per_second", true),
            ("add p50, ms", "add_1", "p50_ms", false),
            ("add p99, ms", "add_1", "p99_ms", false),
            ("memory at the end, MB", "memory", "rss_mb", false),
        ] {
            let (a, b) = (self.of(ours, case, metric), self.of(theirs, case, metric));
            let ratio = if is_better_high { a / b } else { b / a };
            writeln!(out, "| {name} | {a:.2} | {b:.2} | {ratio:.1} |")?;
        }
        let rate = self.of(ours, "add_16", "per_second");
        writeln!(
            out,
            "\nSixteen writers of AgentFlow at once: {rate:.0} adds a second."
        )?;
        Ok(())
    }
}

/// Sentences about people and things, and questions about them.
fn write_texts(folder: &Path) -> Result<()> {
    /// One of these by a number that no other list divides in the same way.
    fn pick<'a>(from: &[&'a str], n: usize, step: usize) -> &'a str {
        let mixed = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (step * 5);
        from[(mixed % from.len() as u64) as usize]
    }
    let mut texts = String::new();
    for n in 0..TEXTS {
        writeln!(
            texts,
            "{} {} {} in {} {}, and {} {} {}.",
            pick(&WHO, n, 1),
            pick(&DOES, n, 2),
            pick(&WHAT, n, 3),
            pick(&WHERE, n, 4),
            pick(&WHEN, n, 5),
            pick(&WHO, n, 6),
            pick(&DOES, n, 7),
            pick(&WHAT, n, 8),
        )?;
    }
    let mut questions = String::new();
    for n in TEXTS..TEXTS + QUESTIONS {
        let (who, what, place) = (pick(&WHO, n, 1), pick(&WHAT, n, 3), pick(&WHERE, n, 4));
        writeln!(questions, "What does {who} think about {what} in {place}?")?;
    }
    fs::write(folder.join("texts"), texts)?;
    fs::write(folder.join("questions"), questions)?;
    Ok(())
}
