//! The graph engine and the agent server against LangGraph's.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{json_lines, machine, median, probe, spread};
use crate::{
    fixture::Fixture,
    install,
    shell::{cache, output, program, root},
};

/// Longest wait for the peer's server.
const PEER_START: Duration = Duration::from_secs(60);
/// How long a server is left alone after the load before its memory is looked at.
const REST: Duration = Duration::from_secs(10);
/// What is shown of each case of the load generator; `cpu_us` is per request.
const LOAD_KEYS: [&str; 6] = [
    "per_second",
    "p50_ms",
    "p99_ms",
    "first_p50_ms",
    "server_cpu_us",
    "generator_cpu_us",
];
/// Results of ours and the peer's, by case.
type Samples = BTreeMap<String, (Vec<f64>, Vec<f64>)>;

/// Options of the benches.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each runs both sides.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each HTTP case.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// One bench in progress.
struct Bench {
    engine: Samples,
    load: Samples,
    server: Samples,
    /// What SQLite alone took, by case.
    floor: BTreeMap<String, Vec<f64>>,
    probes: Vec<(f64, f64)>,
}

/// `cargo xtask bench graph`.
pub fn graph(args: &Args) -> Result<()> {
    let python = install::bench_python()?;
    let (ours, server) = super::programs()?;
    let folder = cache().join("bench");
    fs::create_dir_all(&folder)?;
    let mut bench = Bench {
        engine: Samples::new(),
        load: Samples::new(),
        server: Samples::new(),
        floor: BTreeMap::new(),
        probes: vec![],
    };
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        bench.probes.push(probe(&folder)?);
        bench.engine(&ours, &python, &folder)?;
        bench.servers(&ours, &server, &python, &folder, args.seconds)?;
    }
    let text = bench.report(args, &python)?;
    println!("{text}");
    fs::write(root().join("docs").join("benchmarks.md"), text)?;
    Ok(())
}

fn push(samples: &mut Samples, side: Side, case: &str, value: f64) {
    let entry = samples.entry(case.to_owned()).or_default();
    match side {
        Side::Ours => entry.0.push(value),
        Side::Peer => entry.1.push(value),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Peer,
}

impl Bench {
    fn engine(&mut self, ours: &Path, python: &Path, folder: &Path) -> Result<()> {
        for line in json_lines(program(ours).args(["engine", "--dir"]).arg(folder))? {
            let micros = line["us_per_unit"].as_f64().context("no time")?;
            let case = line["case"].as_str().context("no case")?;
            if let Some(alone) = case.strip_prefix("floor_") {
                let floor = self.floor.entry(alone.to_owned()).or_default();
                floor.push(micros);
                continue;
            }
            push(&mut self.engine, Side::Ours, case, micros);
            // As shipped, the peer's saver syncs at each commit; shown beside.
            let full = format!("{case}@full");
            push(&mut self.engine, Side::Ours, &full, micros);
        }
        let script = "clients/python/peer/engine.py";
        for line in json_lines(program(python).arg(script).arg(folder))? {
            let micros = line["us_per_unit"].as_f64().context("no time")?;
            push(
                &mut self.engine,
                Side::Peer,
                line["case"].as_str().context("no case")?,
                micros,
            );
        }
        Ok(())
    }

    fn servers(
        &mut self,
        ours: &Path,
        server: &Path,
        python: &Path,
        folder: &Path,
        seconds: f64,
    ) -> Result<()> {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let started = Instant::now();
        let running = Fixture::start(server, &data, 0)?;
        ensure!(answers(running.port()?), "our server is not well");
        let ready = started.elapsed().as_secs_f64() * 1e3;
        push(&mut self.server, Side::Ours, "ready_ms", ready);
        push(&mut self.server, Side::Ours, "idle_mb", memory(running.pid));
        self.load(Side::Ours, ours, (&running.url, running.pid), seconds)?;
        thread::sleep(REST);
        push(
            &mut self.server,
            Side::Ours,
            "after_load_mb",
            memory(running.pid),
        );
        drop(running);

        let started = Instant::now();
        let peer = Peer::start(python, &super::peer_folder())?;
        let ready = started.elapsed().as_secs_f64() * 1e3;
        push(&mut self.server, Side::Peer, "ready_ms", ready);
        push(
            &mut self.server,
            Side::Peer,
            "idle_mb",
            memory(peer.child.id()),
        );
        self.load(Side::Peer, ours, (&peer.url, peer.child.id()), seconds)?;
        thread::sleep(REST);
        push(
            &mut self.server,
            Side::Peer,
            "after_load_mb",
            memory(peer.child.id()),
        );
        Ok(())
    }

    fn load(
        &mut self,
        side: Side,
        ours: &Path,
        (url, pid): (&str, u32),
        seconds: f64,
    ) -> Result<()> {
        let (pid, seconds) = (pid.to_string(), seconds.to_string());
        let mut command = program(ours);
        command.args(["load", "--url", url, "--pid", &pid, "--seconds", &seconds]);
        for line in json_lines(&mut command)? {
            let case = line["case"].as_str().context("no case")?;
            for key in LOAD_KEYS {
                let value = line[key].as_f64().context("no value")?;
                push(&mut self.load, side, &format!("{case} {key}"), value);
            }
        }
        Ok(())
    }

    fn report(&self, args: &Args, python: &Path) -> Result<String> {
        let mut out = String::new();
        let versions = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ['langgraph', 'langgraph-checkpoint-sqlite', 'langgraph-api']))";
        writeln!(out, "# Benchmarks\n")?;
        writeln!(
            out,
            "Written by `cargo xtask bench graph --rounds {} --seconds {}` on {}: both sides in \
             turn in each round, medians, and the range of each side. A ratio above 1 means that \
             we are ahead.\n",
            args.rounds,
            args.seconds,
            output(program("date").arg("+%Y-%m-%d"))?,
        )?;
        writeln!(
            out,
            "Checkpoints on PostgreSQL are measured apart: \
             [benchmarks-checkpoints.md](benchmarks-checkpoints.md).\n"
        )?;
        writeln!(
            out,
            "- Peer: {}",
            output(program(python).args(["-c", versions]))?
        )?;
        writeln!(out, "- Machine: {}", machine()?)?;
        let syncs = median(&self.probes.iter().map(|probe| probe.0).collect::<Vec<_>>());
        let cpu = self
            .probes
            .iter()
            .map(|probe| format!("{:.0}", probe.1))
            .collect::<Vec<_>>();
        writeln!(
            out,
            "- The disk synced {syncs:.0} small writes a second; a fixed loop took {} ms in the \
             rounds: the closer these are, the quieter the machine was.",
            cpu.join(", "),
        )?;
        writeln!(
            out,
            "- Our SQLite runs with `synchronous=NORMAL`, and so does the peer's where the name \
             has no `@full`; `@full` is the peer as shipped, which syncs at each commit, against \
             our `NORMAL`.\n"
        )?;
        writeln!(
            out,
            "## Graph engine, µs per superstep (or per task in `fan`)\n"
        )?;
        table(&mut out, &self.engine, |_| Better::Less)?;
        self.floors(&mut out)?;
        writeln!(out, "## Agent server (echo graph, stateless runs)\n")?;
        writeln!(
            out,
            "Ours stores each run in SQLite; the peer, `langgraph dev` as shipped, keeps them in \
             memory. `cpu_us` is CPU time per request, of the server and of the load generator, \
             which share the machine.\n"
        )?;
        table(&mut out, &self.load, |case| {
            match case.ends_with("per_second") {
                true => Better::More,
                false => Better::Less,
            }
        })?;
        writeln!(
            out,
            "\n## Start and memory\n\n`idle_mb` is resident memory at ready, `after_load_mb` {} \
             seconds after the load.\n",
            REST.as_secs()
        )?;
        table(&mut out, &self.server, |_| Better::Less)?;
        Ok(out)
    }
}

impl Bench {
    /// How far the engine with SQLite is from SQLite alone.
    fn floors(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "\nThe floor: the rows that the run left, inserted again into a fresh file by \
             prepared statements, one transaction per checkpoint, nothing else.\n"
        )?;
        writeln!(
            out,
            "| case | AgentFlow | SQLite alone | times |\n|---|---|---|---|"
        )?;
        for (case, floor) in &self.floor {
            let Some((ours, _)) = self.engine.get(case) else {
                continue;
            };
            let times = median(ours) / median(floor);
            let (ours, floor) = (spread(ours), spread(floor));
            writeln!(out, "| {case} | {ours} | {floor} | {times:.1} |")?;
        }
        writeln!(out)?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

fn table(out: &mut String, samples: &Samples, better: fn(&str) -> Better) -> Result<()> {
    writeln!(
        out,
        "| case | AgentFlow | peer | ratio |\n|---|---|---|---|"
    )?;
    for (case, (ours, peer)) in samples
        .iter()
        .filter(|(_, (o, p))| !o.is_empty() && !p.is_empty())
    {
        let (a, b) = (median(ours), median(peer));
        let ratio = match better(case) {
            Better::More => a / b,
            Better::Less => b / a,
        };
        writeln!(
            out,
            "| {case} | {} | {} | {ratio:.1} |",
            spread(ours),
            spread(peer)
        )?;
    }
    Ok(())
}

/// Resident memory of a process and its children, in MB.
fn memory(pid: u32) -> f64 {
    let own = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes: f64 = own
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .unwrap_or(0.0);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below: f64 = children
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .map(memory)
        .sum();
    kilobytes / 1024.0 + below
}

/// LangGraph's development server; killed on drop.
pub(crate) struct Peer {
    pub(super) child: Child,
    pub(crate) url: String,
}

impl Peer {
    /// Starts it in a folder with a `langgraph.json`; it keeps its data there.
    pub(crate) fn start(python: &Path, folder: &Path) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let bin: PathBuf = python.with_file_name("langgraph");
        let child = program(bin)
            .args([
                "dev",
                "--no-browser",
                "--no-reload",
                "--port",
                &port.to_string(),
            ])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let peer = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        let deadline = Instant::now() + PEER_START;
        while !answers(port) {
            if Instant::now() > deadline {
                bail!("the peer's server did not start");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(peer)
    }
}

/// Whether a server on this port says that it is well.
fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let request = "GET /ok HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
