//! Many open streams on one process: ours, and the peer's development server.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{graph::Peer, json_lines, machine, median, probe};
use crate::{
    fixture::Fixture,
    install,
    shell::{cache, output, program, root},
};

/// Streams that both sides hold.
const BOTH: usize = 1000;
/// Runs per second at which both sides are compared.
const BOTH_RATE: &str = "10";
/// Where the report goes.
const FILE: &str = "benchmarks-streams.md";

/// Options of the bench of streams.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each runs both sides.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Streams that we hold.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Runs per second while they are open, one case each.
    #[arg(long, default_value = "50,100,200")]
    rates: String,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Readers that never read.
    #[arg(long, default_value_t = 1000)]
    slow: usize,
}

/// Who is measured, what, and the figures by name.
type Samples = BTreeMap<(String, String), BTreeMap<String, Vec<f64>>>;

/// `cargo xtask bench streams`.
pub fn run(args: &Args) -> Result<()> {
    let python = install::bench_python()?;
    let (generator, server) = super::programs()?;
    let folder = cache().join("bench");
    fs::create_dir_all(&folder)?;
    let mut bench = Bench {
        generator,
        server,
        samples: Samples::new(),
        probes: vec![],
    };
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        bench.probes.push(probe(&folder)?);
        bench.round(args, &python, &folder)?;
    }
    let text = bench.report(args, &python)?;
    println!("{text}");
    fs::write(root().join("docs").join(FILE), text)?;
    Ok(())
}

struct Bench {
    generator: PathBuf,
    server: PathBuf,
    samples: Samples,
    probes: Vec<(f64, f64)>,
}

impl Bench {
    fn round(&mut self, args: &Args, python: &Path, folder: &Path) -> Result<()> {
        let server = self.server.clone();
        let ours = || -> Result<Fixture> {
            let data = folder.join("data");
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
            Fixture::start(&server, &data, 0)
        };
        let seconds = args.seconds.to_string();
        let both = BOTH.to_string();
        let compared = [
            "--streams",
            &both,
            "--rates",
            BOTH_RATE,
            "--seconds",
            &seconds,
        ];
        let peer = Peer::start(python, &super::peer_folder())?;
        self.side("peer", &peer.url, peer.child.id(), &compared)?;
        drop(peer);
        let few = ours()?;
        self.side("few", &few.url, few.pid, &compared)?;
        drop(few);
        let many = ours()?;
        let (streams, slow) = (args.streams.to_string(), args.slow.to_string());
        let all = [
            "--streams",
            &streams,
            "--rates",
            &args.rates,
            "--seconds",
            &seconds,
            "--slow",
            &slow,
        ];
        self.side("many", &many.url, many.pid, &all)
    }

    fn side(&mut self, who: &str, url: &str, pid: u32, options: &[&str]) -> Result<()> {
        let mut command = program(&self.generator);
        command.args(["streams", "--url", url, "--pid", &pid.to_string()]);
        for line in json_lines(command.args(options))? {
            println!("{who}: {line}");
            let case = line["case"].as_str().context("no case")?.to_owned();
            let figures = self.samples.entry((who.to_owned(), case)).or_default();
            for (name, value) in line.as_object().context("no figures")? {
                if let Some(value) = value.as_f64() {
                    figures.entry(name.clone()).or_default().push(value);
                }
            }
        }
        Ok(())
    }

    /// The median of a figure; NaN if it was not measured.
    fn of(&self, who: &str, case: &str, name: &str) -> f64 {
        let figures = self.samples.get(&(who.to_owned(), case.to_owned()));
        let values = figures.and_then(|figures| figures.get(name));
        median(values.map_or(&[], Vec::as_slice))
    }

    fn report(&self, args: &Args, python: &Path) -> Result<String> {
        let mut out = String::new();
        let versions = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ['langgraph', 'langgraph-api']))";
        writeln!(
            out,
            "# Open streams, measured\n\nWritten by `cargo xtask bench streams --rounds {} \
             --streams {} --seconds {}` on {}: server and load generator on one machine, both \
             sides in turn in each round, medians.\n",
            args.rounds,
            args.streams,
            args.seconds,
            output(program("date").arg("+%Y-%m-%d"))?,
        )?;
        let peer = output(program(python).args(["-c", versions]))?;
        writeln!(out, "- Peer: {peer}, `langgraph dev` as shipped, in memory")?;
        writeln!(out, "- Machine: {}", machine()?)?;
        let loops = self.probes.iter().map(|probe| format!("{:.0}", probe.1));
        writeln!(
            out,
            "- A fixed loop took {} ms in the rounds: the closer these are, the quieter the \
             machine was.\n\n## What open streams cost\n\nEach on a thread of its own, protocol \
             v2, silent but for heartbeats.\n\n| | streams | refused | open | MB before | MB with \
             them | KB per stream | idle CPU % |\n|---|---|---|---|---|---|---|---|",
            loops.collect::<Vec<_>>().join(", "),
        )?;
        for (name, who) in [
            ("peer", "peer"),
            ("AgentFlow", "few"),
            ("AgentFlow", "many"),
        ] {
            let of = |figure: &str| self.of(who, "hold", figure);
            writeln!(
                out,
                "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} |",
                of("streams"),
                of("refused"),
                of("open"),
                of("before_mb"),
                of("after_mb"),
                of("kb_per_stream"),
                of("idle_cpu_percent"),
            )?;
        }
        self.rates(&mut out, args)?;
        self.slow(&mut out)?;
        Ok(out)
    }

    fn rates(&self, out: &mut String, args: &Args) -> Result<()> {
        writeln!(
            out,
            "\n## The first event of a run while they are open\n\nRuns of the echo graph, started \
             at a steady rate whether or not earlier ones have ended. Times count from when a run \
             was due: to the first event on its own stream, and on the stream that was open on \
             its thread.\n\n| | streams | runs/s | done/s | failed | own p50 ms | own p99 ms | \
             open p50 ms | open p99 ms | CPU ms per run |\n|---|---|---|---|---|---|---|---|---|---|"
        )?;
        let rates = args
            .rates
            .split(',')
            .map(|rate| ("AgentFlow", "many", rate));
        let both = [("peer", "peer", BOTH_RATE), ("AgentFlow", "few", BOTH_RATE)];
        for (name, who, rate) in both.into_iter().chain(rates) {
            let of = |figure: &str| self.of(who, &format!("rate_{rate}"), figure);
            writeln!(
                out,
                "| {name} | {:.0} | {rate} | {:.1} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
                of("streams"),
                of("per_second"),
                of("failed"),
                of("first_p50_ms"),
                of("first_p99_ms"),
                of("watcher_p50_ms"),
                of("watcher_p99_ms"),
                of("cpu_ms_per_run"),
            )?;
        }
        Ok(())
    }

    fn slow(&self, out: &mut String) -> Result<()> {
        let of = |figure: &str| self.of("many", "slow", figure);
        writeln!(
            out,
            "\n## Readers that never read\n\n{:.0} readers on 10 threads, while {:.0} runs send \
             their states past them, each {:.0} KB larger than the one before: {:.0} MB before, {:.0} MB with the readers, at most \
             {:.0} MB, {:.0} MB at the end. {:.0} of them were cut off amid the body, so that none \
             takes what it has for complete; a reader that came back got {:.0} events, to the end \
             of the last run.",
            of("readers"),
            of("runs"),
            of("added_bytes") / 1e3,
            of("before_mb"),
            of("opened_mb"),
            of("peak_mb"),
            of("after_mb"),
            of("evicted"),
            of("resumed_events"),
        )?;
        Ok(())
    }
}
