//! Command line: flags to configuration, commands to actions, errors to exit codes.

mod index;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use agentflow_memory::Reembed;
use agentflow_types::{Error, ErrorKind, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    accounts,
    app::{self, App},
    banner::Style,
    certs,
    config::{self, Config, Merged, Sources},
    gate, logging, mem0_config, memory, models,
    project::{self, Given},
    recollection::Recollection,
    upkeep::{self, Migrate, Place},
    workers,
};

/// Exit code for failures that the input or the operation caused.
const EXIT_FAILURE: u8 = 1;
/// Exit code when the data folder or the port is taken.
const EXIT_CONFLICT: u8 = 5;

/// A self-hosted agent backend in one binary. No telemetry, no update checks.
#[derive(Debug, Parser)]
#[command(name = "agentflow", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve everything in one process, with the embedded database (the default command).
    Dev(Dev),
    /// Write a small project: one graph, one tool, comments.
    Init(Init),
    /// Print the JSON Schema of graph files.
    Schema,
    /// Check graph files and report every mistake.
    Check {
        /// Graph files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check a project of another system: what will work, what will not, and why.
    #[command(subcommand)]
    Import(Import),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the version of the database's tables, or bring them up to date.
    #[command(subcommand)]
    Migrate(Migrate),
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(accounts::Keys),
    /// Make, list and change users.
    #[command(subcommand)]
    Users(accounts::Users),
    /// Make, list, shut and open tenants.
    #[command(subcommand)]
    Tenants(accounts::Tenants),
    /// Compare the index of memories with the records, and repair it; no server may use the
    /// embedded database.
    Reconcile {
        /// Only tell what differs: exit code 1 if something does.
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Look after the index of memories.
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Look after local models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Print the newest entries of the log of changes.
    Audit(accounts::Whose),
    /// Check Compose files and what belongs to them against the rules of a deployment.
    Gate(gate::Gate),
    /// Print the page of a rule of the gate, or the list of rules.
    Explain {
        /// Its number or name.
        rule: Option<String>,
    },
    /// Make certificates for development: an authority, a server's, clients'.
    Certs(certs::Certs),
    /// Copy the embedded database to a new file; a server may go on meanwhile.
    Backup {
        /// The new file.
        to: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Put a backup in the place of the embedded database; no server may use it.
    Restore {
        /// The backup.
        from: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Print the version.
    Version {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Default, Args)]
struct Dev {
    /// Port of the agent API; if given and taken, that is an error.
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on; without authentication a loopback one.
    #[arg(long)]
    host: Option<String>,
    /// Folder for data.
    #[arg(long, conflicts_with = "memory")]
    data: Option<PathBuf>,
    /// Keep nothing on disk.
    #[arg(long)]
    memory: bool,
    /// Print one JSON line when ready, and log JSON.
    #[arg(long)]
    json: bool,
    /// Configuration file; otherwise the nearest agentflow.toml upwards.
    #[arg(long, env = "AGENTFLOW_CONFIG")]
    config: Option<PathBuf>,
    /// Log filter, for example `info`.
    #[arg(long)]
    log: Option<String>,
    /// First install what langgraph.json names, into .venv beside it.
    #[arg(long)]
    install: bool,
    /// Keep the processes of a langgraph.json when its files change.
    #[arg(long)]
    no_reload: bool,
}

#[derive(Debug, Subcommand)]
enum Import {
    /// A project with a langgraph.json.
    Langgraph {
        /// The file, or its folder.
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The interpreter; otherwise the project's own.
        #[arg(long, default_value = "")]
        python: String,
    },
    /// A configuration of Mem0, as JSON or YAML: the agentflow.toml that does the same.
    Mem0Config {
        /// The file.
        file: PathBuf,
        /// Where to write it; otherwise it is printed, and the report goes to standard error.
        #[arg(long)]
        output: Option<PathBuf>,
        /// Overwrite a file that exists.
        #[arg(long, requires = "output")]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
enum MemoryCommand {
    /// Embed all memories with the configured model, beside the index that serves meanwhile, and
    /// change to it when all is there. It goes on where one that was stopped left off.
    Reembed {
        /// Throw the old index away first: what is there again is found, until all is.
        #[arg(long)]
        at_once: bool,
        /// Give up what is made beside the index that serves.
        #[arg(long, conflicts_with = "at_once")]
        stop: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Fetch the local embedding model, 91 MB, into the Hugging Face cache.
    Pull,
}

#[derive(Debug, Args)]
struct Init {
    /// Folder; created if missing.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every value and where it came from, secrets masked.
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Configuration file.
        #[arg(long, env = "AGENTFLOW_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Print the commented defaults.
    Defaults,
}

/// Runs the command line; `started` is when the process began.
#[must_use]
pub fn main(started: Instant) -> ExitCode {
    if let Some(code) = crate::reader() {
        return code;
    }
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Dev(Dev::default())) {
        Command::Dev(args) => dev(&args, started),
        Command::Init(args) => init(&args),
        Command::Schema => print_json(&agentflow_declarative::schema()),
        Command::Check { files } => check(&files),
        Command::Import(Import::Langgraph { path, python }) => import(&path, &python),
        Command::Import(Import::Mem0Config {
            file,
            output,
            force,
        }) => import_mem0(&file, output.as_deref(), force),
        Command::Config(ConfigCommand::Show { json, config }) => config_show(json, config),
        Command::Config(ConfigCommand::Defaults) => print(config::DEFAULTS.trim_end()),
        Command::Keys(keys) => account(accounts::Command::Keys(keys)),
        Command::Users(users) => account(accounts::Command::Users(users)),
        Command::Tenants(tenants) => account(accounts::Command::Tenants(tenants)),
        Command::Audit(whose) => account(accounts::Command::Audit(whose)),
        Command::Gate(gate) => Ok(gate.run()),
        Command::Explain { rule } => Ok(gate::explain(rule.as_deref())),
        Command::Certs(certs) => certs.run().and_then(|text| print(&text)),
        Command::Migrate(migrate) => {
            let config = at_rest(migrate.place());
            config.and_then(|config| print(&runtime()?.block_on(migrate.run(&config))?))
        }
        Command::Backup { to, place } => {
            at_rest(&place).and_then(|config| print(&upkeep::backup(&config, &to)?))
        }
        Command::Restore { from, place } => {
            at_rest(&place).and_then(|config| print(&upkeep::restore(&config, &from)?))
        }
        Command::Reconcile { check, place } => index::reconcile(check, &place),
        Command::Memory(MemoryCommand::Reembed {
            at_once,
            stop,
            place,
        }) => {
            let how = match (at_once, stop) {
                (true, _) => Reembed::AtOnce,
                (_, true) => Reembed::Stop,
                _ => Reembed::Beside,
            };
            index::reembed(how, &place)
        }
        Command::Models(ModelsCommand::Pull) => pull(),
        Command::Version { json } => version(json),
    };
    match result {
        Ok(code) => code,
        Err(err) => report(&err),
    }
}

/// Prints an error with its cause and hint; no stack traces.
fn report(err: &Error) -> ExitCode {
    let (red, reset) = if logging::colour() {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let code = err
        .error_code()
        .map_or(String::new(), |code| format!("[{code}]"));
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{red}error{reset}{code}: {err}");
    let mut cause = std::error::Error::source(err);
    while let Some(inner) = cause {
        let _ = writeln!(stderr, "  caused by: {inner}");
        cause = inner.source();
    }
    let taken = matches!(err.kind(), ErrorKind::Conflict | ErrorKind::Busy);
    ExitCode::from(if taken { EXIT_CONFLICT } else { EXIT_FAILURE })
}

fn print(text: &str) -> Result<ExitCode> {
    // A closed pipe (`agentflow schema | head`) is not an error of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &serde_json::Value) -> Result<ExitCode> {
    print(&serde_json::to_string_pretty(value).expect("JSON values serialize"))
}

fn version(json: bool) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match json {
        true => print_json(&serde_json::json!({"name": "agentflow", "version": version})),
        false => print(&format!("agentflow {version}")),
    }
}

fn load(file: Option<PathBuf>, flags: &[(String, toml::Value)]) -> Result<(Config, Merged)> {
    let cwd = std::env::current_dir()
        .map_err(|err| Error::invalid("the current folder cannot be read").source_err(err))?;
    let file = file.or_else(|| config::find(&cwd));
    let names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .collect();
    config::load(&Sources {
        file: file.as_deref(),
        env: &|name| std::env::var(name).ok(),
        env_names: &names,
        flags,
        cwd: &cwd,
    })
}

/// The configuration of a command that looks after the database.
fn at_rest(place: &Place) -> Result<Config> {
    let flags: Result<Vec<_>> = place.data.iter().map(|data| data_flag(data)).collect();
    load(place.config.clone(), &flags?).map(|(config, _)| config)
}

/// Runs a command about accounts.
fn account(command: accounts::Command) -> Result<ExitCode> {
    let config = at_rest(command.place())?;
    print(&runtime()?.block_on(command.run(&config))?)
}

fn pull() -> Result<ExitCode> {
    let folder = runtime()?.block_on(memory::pull())?;
    print(&format!("the model is in {}", folder.display()))
}

fn data_flag(data: &Path) -> Result<(String, toml::Value)> {
    let path = std::path::absolute(data)
        .map_err(|err| Error::invalid("--data is not a path").source_err(err))?;
    Ok((
        "storage.path".into(),
        toml::Value::String(path.display().to_string()),
    ))
}

fn config_show(json: bool, file: Option<PathBuf>) -> Result<ExitCode> {
    let (_, merged) = load(file, &[])?;
    let rows = merged.rows();
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "key": row.key, "value": row.value, "origin": row.origin.to_string(),
                })
            })
            .collect();
        return print_json(&rows.into());
    }
    let width = rows
        .iter()
        .map(|row| row.key.len() + row.value.len())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let setting = format!("{} = {}", row.key, row.value);
            format!("{setting:<w$}  # {}", row.origin, w = width + 3)
        })
        .collect();
    print(&lines.join("\n"))
}

fn init(args: &Init) -> Result<ExitCode> {
    let written = project::write(&args.dir)?;
    for path in written {
        print(&format!("wrote {}", path.display()))?;
    }
    print("\nnext: agentflow dev")
}

fn check(files: &[PathBuf]) -> Result<ExitCode> {
    let (config, _) = load(None, &[])?;
    let models = runtime()?.block_on(models::from_config(&config.models))?;
    let given = Given {
        memory: config.memory.enabled.then(Recollection::default),
        ..Given::default()
    };
    let mut failed = false;
    for file in files {
        match project::check(file, &models, &given) {
            Ok(warnings) => {
                eprint!("{warnings}");
                print(&format!("{}: ok", file.display()))?;
            }
            Err(report) => {
                failed = true;
                eprint!("{report}");
            }
        }
    }
    Ok(if failed {
        ExitCode::from(EXIT_FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

fn import(path: &Path, python: &str) -> Result<ExitCode> {
    let (report, fine) = runtime()?.block_on(workers::import(path, python))?;
    let code = print(&report)?;
    Ok(if fine {
        code
    } else {
        ExitCode::from(EXIT_FAILURE)
    })
}

/// Prints or writes the configuration that a file of Mem0 describes; nothing if there are mistakes.
fn import_mem0(file: &Path, output: Option<&Path>, force: bool) -> Result<ExitCode> {
    let read = mem0_config::import(file)?;
    let report = read.report();
    if !read.is_fine() {
        print(&report)?;
        print("\nnothing is written: mend what is unknown first")?;
        return Ok(ExitCode::from(EXIT_FAILURE));
    }
    let Some(path) = output else {
        eprintln!("{report}\n");
        return print(read.toml().trim_end());
    };
    let failed = |err: std::io::Error| {
        Error::invalid("the file cannot be written")
            .with("path", path.display())
            .source_err(err)
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    let opened = match force {
        true => options.create(true).truncate(true).open(path),
        false => options.create_new(true).open(path),
    };
    let mut written = opened.map_err(|err| match err.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::conflict("the file exists: choose another one, or add --force")
                .with("path", path.display())
        }
        _ => failed(err),
    })?;
    written.write_all(read.toml().as_bytes()).map_err(failed)?;
    print(&report)?;
    print(&format!("\nwrote {}", path.display()))
}

/// The configuration of `agentflow dev`.
fn dev_config(args: &Dev) -> Result<Config> {
    let mut flags = Vec::new();
    let mut flag = |key: &str, value: toml::Value| flags.push((key.to_owned(), value));
    if let Some(port) = args.port {
        flag("server.port", toml::Value::Integer(port.into()));
    }
    if let Some(host) = &args.host {
        flag("server.host", toml::Value::String(host.clone()));
    }
    if let Some(data) = &args.data {
        let (key, value) = data_flag(data)?;
        flag(&key, value);
    }
    if let Some(level) = &args.log {
        flag("log.level", toml::Value::String(level.clone()));
    }
    if args.no_reload {
        flag("workers.reload", toml::Value::Boolean(false));
    }
    if args.json {
        flag("log.format", toml::Value::String("json".into()));
    }
    let (mut config, merged) = load(args.config.clone(), &flags)?;
    if merged.origin("workers.reload") == Some(&config::Origin::Default) {
        config.workers.reload = true;
    }
    Ok(config)
}

fn dev(args: &Dev, started: Instant) -> Result<ExitCode> {
    let config = dev_config(args)?;
    if args.install {
        workers::install(&config.workers)?;
    }
    let _exporting = logging::start(&config.log, &config.traces)?;
    let memory = if args.memory {
        app::Keep::Nothing
    } else {
        app::Keep::OnDisk
    };
    let json = args.json || !std::io::stderr().is_terminal();
    runtime()?.block_on(async {
        // Before anybody can know that the server is there and stop it.
        let signals = app::Signals::listen()?;
        let server = App::new(config)
            .keep(memory)
            .graphs_from_config()
            .await?
            .start()
            .await?;
        let ready = server.ready(started);
        if json {
            print(&ready.json())?;
        } else {
            let style = if logging::colour() {
                Style::Colour
            } else {
                Style::Plain
            };
            eprint!("{}", ready.text(style));
        }
        server.until(signals).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| Error::busy("threads cannot be started").source_err(err))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Whether `agentflow dev` reloads, with a file of this text and these flags.
    fn reloads(file: &str, flags: &[&str]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentflow.toml");
        std::fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap();
        let words = ["agentflow", "dev", "--config", path];
        let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
        let Some(Command::Dev(args)) = cli.command else {
            panic!("not `dev`");
        };
        dev_config(&args).unwrap().workers.reload
    }

    #[test]
    fn dev_reloads_unless_it_is_told_otherwise() {
        assert!(reloads("", &[]));
        assert!(!reloads("[workers]\nreload = false", &[]));
        assert!(!reloads("[workers]\nreload = true", &["--no-reload"]));
    }
}
