//! A Python graph behind us and behind LangGraph's development server, and what the link costs.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use super::{Peer, json_lines, machine, median, peer_folder, probe, spread};
use crate::{
    fixture::Fixture,
    install,
    shell::{cache, output, program, root, target},
};

/// Numbers of processes that are measured.
const PROCESSES: [usize; 3] = [1, 2, 4];
/// What is shown of each case of the load generator.
const KEYS: [&str; 3] = ["per_second", "p50_ms", "p99_ms"];
/// Seconds of load before the first that counts: processes start, modules are read.
const WARM_SECONDS: &str = "0.5";

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each runs both sides.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each case.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Values by case and by side: `peer`, or ours with so many processes.
type Samples = BTreeMap<(String, String), Vec<f64>>;

/// `cargo xtask bench worker`.
pub fn worker(args: &Args) -> Result<()> {
    let python = install::bench_python()?;
    super::programs()?;
    let folder = cache().join("bench-worker");
    fs::create_dir_all(&folder)?;
    let (mut samples, mut steps, mut probes) = (Samples::new(), BTreeMap::new(), Vec::new());
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        probes.push(probe(&folder)?);
        for processes in PROCESSES {
            let server = start(&python, &folder, &peer_folder(), processes)?;
            let side = format!("{processes} processes");
            load(&mut samples, &side, &server.url, args.seconds)?;
        }
        let peer = Peer::start(&python, &peer_folder())?;
        load(&mut samples, "peer", &peer.url, args.seconds)?;
        drop(peer);
        supersteps(&mut steps, &python, &folder)?;
    }
    let text = report(args, &python, &samples, &steps, &probes)?;
    println!("{text}");
    fs::write(root().join("docs").join("benchmarks-workers.md"), text)?;
    Ok(())
}

fn start(python: &Path, folder: &Path, project: &Path, processes: usize) -> Result<Fixture> {
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let server = target().join("release/examples/fixture_server");
    let (python, project) = (python.display().to_string(), project.display().to_string());
    let processes = processes.to_string();
    let more = [
        "--project",
        &project,
        "--python",
        &python,
        "--processes",
        &processes,
    ];
    Fixture::start_with(&server, &data, 0, &more)
}

fn load(samples: &mut Samples, side: &str, url: &str, seconds: f64) -> Result<()> {
    let generator = target().join("release/agentflow-bench");
    let once = |seconds: &str| {
        let mut command = program(&generator);
        command.args(["load", "--url", url, "--seconds", seconds]);
        json_lines(&mut command)
    };
    once(WARM_SECONDS)?;
    for line in once(&seconds.to_string())? {
        let case = line["case"].as_str().context("no case")?;
        for key in KEYS {
            let value = line[key].as_f64().context("no value")?;
            let at = (format!("{case} {key}"), side.to_owned());
            samples.entry(at).or_default().push(value);
        }
    }
    Ok(())
}

fn supersteps(steps: &mut BTreeMap<String, Vec<f64>>, python: &Path, folder: &Path) -> Result<()> {
    let project = root().join("clients/workers/bench");
    let script = project.join("steps.py");
    let mut lines = json_lines(program(python).arg(&script).arg(folder))?;
    let server = start(python, folder, &project, 1)?;
    lines.extend(json_lines(
        program(python).arg(&script).args(["--url", &server.url]),
    )?);
    for line in lines {
        let case = line["case"].as_str().context("no case")?.to_owned();
        let micros = line["us_per_step"].as_f64().context("no time")?;
        steps.entry(case).or_default().push(micros);
    }
    Ok(())
}

fn report(
    args: &Args,
    python: &Path,
    samples: &Samples,
    steps: &BTreeMap<String, Vec<f64>>,
    probes: &[(f64, f64)],
) -> Result<String> {
    let mut out = String::new();
    let versions = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ['langgraph', 'langgraph-api']))";
    writeln!(out, "# Python graphs: benchmarks\n")?;
    writeln!(
        out,
        "Written by `cargo xtask bench worker --rounds {} --seconds {}` on {}: the same graph \
         (`clients/python/peer`) behind both servers in turn in each round; medians, and the range.\n",
        args.rounds,
        args.seconds,
        output(program("date").arg("+%Y-%m-%d"))?,
    )?;
    writeln!(
        out,
        "- Peer: `langgraph dev`, {}",
        output(program(python).args(["-c", versions]))?
    )?;
    writeln!(out, "- Machine: {}", machine()?)?;
    let cpu: Vec<String> = probes
        .iter()
        .map(|probe| format!("{:.0}", probe.1))
        .collect();
    writeln!(
        out,
        "- A fixed loop took {} ms in the rounds: the closer these are, the quieter it was.",
        cpu.join(", ")
    )?;
    writeln!(
        out,
        "- Ours stores runs, events and checkpoints in SQLite; the peer keeps them in memory. The \
         load generator shares the machine.\n"
    )?;
    table(&mut out, samples)?;
    writeln!(out, "\n## One superstep, µs\n")?;
    writeln!(
        out,
        "A run of 50 supersteps of a node that does nothing, `values` and `updates` reported. What \
         the link costs is the difference to the same saver without it.\n"
    )?;
    writeln!(out, "| case | µs per superstep |\n|---|---|")?;
    for (case, values) in steps {
        writeln!(out, "| {case} | {} |", spread(values))?;
    }
    Ok(out)
}

fn table(out: &mut String, samples: &Samples) -> Result<()> {
    let sides: Vec<String> = PROCESSES.map(|n| format!("{n} processes")).into();
    writeln!(
        out,
        "| case | {} | peer | ratio, 1 process |",
        sides.join(" | ")
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    let mut cases: Vec<&String> = samples.keys().map(|(case, _)| case).collect();
    cases.dedup();
    for case in cases {
        let of = |side: &str| samples.get(&(case.clone(), side.to_owned()));
        let (Some(one), Some(peer)) = (of(&sides[0]), of("peer")) else {
            continue;
        };
        let ratio = match case.ends_with("per_second") {
            true => median(one) / median(peer),
            false => median(peer) / median(one),
        };
        let ours = sides.iter().filter_map(|side| of(side));
        let ours: Vec<String> = ours.map(|values| spread(values)).collect();
        writeln!(
            out,
            "| {case} | {} | {} | {ratio:.1} |",
            ours.join(" | "),
            spread(peer)
        )?;
    }
    Ok(())
}
