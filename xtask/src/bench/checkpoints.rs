//! Checkpoints on PostgreSQL: us and Python's savers on one server, beside its own commit rate.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{json_lines, machine, median, probe};
use crate::{
    install,
    shell::{cache, exists, output, program, root},
};

/// The commit that everything is compared with: a row as small as the smallest checkpoint.
const COMMIT: &str = "INSERT INTO commits VALUES (:client_id, repeat('x', 180));\n";
/// Clients of pgbench, as many as there are threads.
const CLIENTS: [u32; 2] = [1, 16];
/// Names of the peer's savers, as its cases begin.
const PEERS: [(&str, &str); 2] = [
    ("saver_", "PostgresSaver"),
    ("async_saver_", "AsyncPostgresSaver"),
];
/// Where the report goes.
const FILE: &str = "benchmarks-checkpoints.md";

/// Options of the bench of checkpoints.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each runs both sides.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement of the machine's commit rate.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Only cases whose name contains this; the report is then printed only.
    #[arg(long)]
    only: Option<String>,
}

/// Results by case and by what was measured.
type Samples = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

struct Bench {
    samples: Samples,
    probes: Vec<(f64, f64)>,
}

/// `cargo xtask bench checkpoints`.
pub fn run(args: &Args) -> Result<()> {
    let python = install::python()?;
    install::servers()?;
    let (ours, _) = super::programs()?;
    let folder = cache().join("bench");
    fs::create_dir_all(&folder)?;
    let mut names = vec!["machine".to_owned()];
    for round in 1..=args.rounds {
        names.extend([format!("ours_{round}"), format!("peer_{round}")]);
    }
    let server = Server::start(&ours, &names)?;
    let script = folder.join("commit.sql");
    fs::write(&script, COMMIT)?;
    server.sql("machine", "CREATE TABLE commits (n int, filler text)")?;
    let mut bench = Bench {
        samples: Samples::new(),
        probes: vec![],
    };
    let only = args.only.as_deref().unwrap_or_default();
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        bench.probes.push(probe(&folder)?);
        bench.commits(&server, &script, args.seconds)?;
        let mine = |bench: &mut Bench| {
            let mut command = program(&ours);
            command.args(["checkpoints", "--port", &server.port.to_string()]);
            command.args(["--postmaster", &server.pid.to_string()]);
            command.args(["--database", &format!("ours_{round}"), "--only", only]);
            bench.lines(&mut command)
        };
        let theirs = |bench: &mut Bench| {
            let mut command = program(&python);
            command.arg("clients/python/peer/checkpoints.py");
            command.arg(server.url(&format!("peer_{round}")));
            command.args([&server.pid.to_string(), only]);
            bench.lines(&mut command)
        };
        // Who comes first finds the disk and the caches as the other one left them.
        if round % 2 == 1 {
            mine(&mut bench)?;
            theirs(&mut bench)?;
        } else {
            theirs(&mut bench)?;
            mine(&mut bench)?;
        }
    }
    let text = bench.report(args, &python, &server)?;
    println!("{text}");
    if args.only.is_none() {
        fs::write(root().join("docs").join(FILE), text)?;
    }
    Ok(())
}

impl Bench {
    fn push(&mut self, case: &str, metric: &str, value: f64) {
        let case = self.samples.entry(case.to_owned()).or_default();
        case.entry(metric.to_owned()).or_default().push(value);
    }

    fn lines(&mut self, command: &mut std::process::Command) -> Result<()> {
        for line in json_lines(command)? {
            let case = line["case"].as_str().context("no case")?;
            for (metric, value) in line.as_object().context("no case")? {
                if let Some(value) = value.as_f64() {
                    self.push(case, metric, value);
                }
            }
        }
        Ok(())
    }

    /// The machine's own commit rate.
    fn commits(&mut self, server: &Server, script: &Path, seconds: u32) -> Result<()> {
        for clients in CLIENTS {
            let mut command = program(pgbench()?);
            command
                .args(["--no-vacuum", "--protocol", "prepared", "--file"])
                .arg(script)
                .args(["--client", &clients.to_string(), "--jobs", "1"])
                .args(["--time", &seconds.to_string()])
                .arg(server.admin_url("machine"));
            let text = output(&mut command)?;
            let rate = text
                .lines()
                .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
                .context("pgbench names no rate")?;
            self.push(&format!("commits_{clients}"), "per_second", rate);
        }
        Ok(())
    }

    /// The median of what was measured; NaN if it was not.
    fn of(&self, case: &str, metric: &str) -> f64 {
        let values = self.samples.get(case).and_then(|case| case.get(metric));
        median(values.map_or(&[], Vec::as_slice))
    }

    /// The best of both savers.
    fn peer(&self, case: &str, metric: &str, best: fn(f64, f64) -> f64) -> f64 {
        let both = PEERS.map(|(prefix, _)| self.of(&format!("{prefix}{case}"), metric));
        best(both[0], both[1])
    }

    fn report(&self, args: &Args, python: &Path, server: &Server) -> Result<String> {
        let mut out = String::new();
        let versions = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ['langgraph', 'langgraph-checkpoint-postgres', 'psycopg']))";
        writeln!(out, "# Checkpoints on PostgreSQL, measured\n")?;
        writeln!(
            out,
            "Written by `cargo xtask bench checkpoints --rounds {} --seconds {}` on {}: one \
             PostgreSQL {} with `fsync` on, both sides in turn in each round, medians. Ratios are \
             above 1 where we are ahead.\n",
            args.rounds,
            args.seconds,
            output(program("date").arg("+%Y-%m-%d"))?,
            server.version,
        )?;
        let peer = output(program(python).args(["-c", versions]))?;
        writeln!(out, "- Peer: {peer}")?;
        writeln!(out, "- Machine: {}", machine()?)?;
        let syncs: Vec<f64> = self.probes.iter().map(|probe| probe.0).collect();
        let loops = self.probes.iter().map(|probe| format!("{:.0}", probe.1));
        writeln!(
            out,
            "- The disk synced {:.0} small writes a second; a fixed loop took {} ms in the \
             rounds: the closer these are, the quieter the machine was.",
            median(&syncs),
            loops.collect::<Vec<_>>().join(", "),
        )?;
        self.speed(&mut out)?;
        self.cpu(&mut out)?;
        self.bytes(&mut out)?;
        self.growth(&mut out)?;
        Ok(out)
    }

    fn speed(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "\n## Supersteps a second\n\nA loop of one node with a small state. `pgbench` is the \
             machine's own rate: one small row per commit, prepared, as many clients as there \
             are threads. Python's threads have a saver and a connection each.\n\n\
             | threads, durability | pgbench | AgentFlow | PostgresSaver | AsyncPostgresSaver | \
             to the better one | commits of pgbench per step |\n|---|---|---|---|---|---|---|"
        )?;
        for threads in CLIENTS {
            for durability in ["sync", "async"] {
                let case = format!("loop_{durability}_{threads}");
                let commits = self.of(&format!("commits_{threads}"), "per_second");
                let ours = self.of(&case, "per_second");
                let [one, two] =
                    PEERS.map(|(prefix, _)| self.of(&format!("{prefix}{case}"), "per_second"));
                writeln!(
                    out,
                    "| {threads}, {durability} | {commits:.0} | {ours:.0} | {one:.0} | {two:.0} \
                     | {:.1} | {:.2} |",
                    ours / one.max(two),
                    commits / ours,
                )?;
            }
        }
        Ok(())
    }

    fn cpu(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "\n## Processor time per superstep, µs\n\nOf the program, and of the server's \
             processes.\n\n| threads, durability | AgentFlow | better saver | ratio | PostgreSQL \
             under AgentFlow | under the better saver |\n|---|---|---|---|---|---|"
        )?;
        for threads in CLIENTS {
            for durability in ["sync", "async"] {
                let case = format!("loop_{durability}_{threads}");
                let ours = self.of(&case, "cpu_us");
                let peer = self.peer(&case, "cpu_us", f64::min);
                writeln!(
                    out,
                    "| {threads}, {durability} | {ours:.0} | {peer:.0} | {:.1} | {:.0} | {:.0} |",
                    peer / ours,
                    self.of(&case, "database_cpu_us"),
                    self.peer(&case, "database_cpu_us", f64::min),
                )?;
            }
        }
        Ok(())
    }

    fn bytes(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "\n## Bytes per superstep\n\nA conversation that starts with one message of this size \
             and grows by 1 KB a step, 30 steps, `sync`. Log is the write-ahead log, tables are \
             LangGraph's with their indexes. `whole` is the usual channel of messages, `delta` \
             one that stores what changed.\n\n| start, channel | log, AgentFlow | log, Python | \
             tables, AgentFlow | tables, Python | steps a second, AgentFlow | Python |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for size in ["1kb", "100kb", "1mb"] {
            for channel in ["whole", "delta"] {
                let case = format!("talk_{channel}_{size}");
                self.bytes_row(out, &format!("{size}, {channel}"), &case)?;
            }
        }
        Ok(())
    }

    fn growth(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "\nThe same from 1 KB over four turns of 50 steps; a delta channel stores its whole \
             value once in 100 updates.\n\n| steps, channel | log, AgentFlow | log, Python | \
             tables, AgentFlow | tables, Python | steps a second, AgentFlow | Python |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for channel in ["whole", "delta"] {
            for (from, to) in [(1, 50), (51, 100), (101, 150), (151, 200)] {
                let name = format!("{from} to {to}, {channel}");
                self.bytes_row(out, &name, &format!("grow_{channel}_{to}"))?;
            }
        }
        Ok(())
    }

    fn bytes_row(&self, out: &mut String, name: &str, case: &str) -> Result<()> {
        let mut row = format!("| {name} |");
        for metric in ["wal_bytes", "table_bytes", "per_second"] {
            for case in [case.to_owned(), format!("saver_{case}")] {
                write!(row, " {:.0} |", self.of(&case, metric))?;
            }
        }
        writeln!(out, "{row}")?;
        Ok(())
    }
}

/// The program that measures commits; Debian keeps it with the server.
fn pgbench() -> Result<std::path::PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .flatten()
        .map(|entry| entry.path().join("bin").join("pgbench"))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    match found.pop() {
        Some(path) => Ok(path),
        None if exists("pgbench") => Ok("pgbench".into()),
        None => bail!("pgbench is missing; Debian's package postgresql has it"),
    }
}

/// The server; it stops when this is dropped.
struct Server {
    child: Child,
    port: u64,
    pid: u64,
    admin: String,
    app: String,
    version: String,
}

impl Server {
    fn start(ours: &Path, databases: &[String]) -> Result<Self> {
        let mut child = program(ours)
            .arg("database")
            .args(databases)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).context("the database did not start")?;
        let text = |key: &str| ready[key].as_str().context("no address").map(str::to_owned);
        Ok(Self {
            child,
            port: ready["port"].as_u64().context("no port")?,
            pid: ready["pid"].as_u64().context("no process")?,
            admin: text("admin")?,
            app: text("app")?,
            version: text("version")?,
        })
    }

    /// A database for the superuser.
    fn admin_url(&self, database: &str) -> String {
        at(&self.admin, database)
    }

    /// A database for the user that owns it.
    fn url(&self, database: &str) -> String {
        at(&self.app, database)
    }

    fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = program("psql");
        command.args(["--no-psqlrc", "--quiet", "--command", sql]);
        output(command.arg(self.admin_url(database)))
    }
}

/// The URL of another database of the same server.
fn at(url: &str, database: &str) -> String {
    url.replace("/postgres?", &format!("/{database}?"))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
