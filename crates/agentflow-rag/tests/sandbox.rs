//! Files that want to do harm, through real worker processes: each is read or refused with a reason,
//! and the next file is read as if nothing had happened.
#![allow(clippy::unwrap_used)]

#[path = "sandbox/hostile.rs"]
mod hostile;

use std::{fs, path::Path, process::Command, time::Duration};

use agentflow_rag::{
    Declared, Limits, Parsed, Refusal, Sandbox, limits::Bound, parse::GAVE_UP, sandbox::Size,
};
use proptest::prelude::*;

fn worker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_agentflow-rag-worker"))
}

fn sandbox(limits: Limits) -> Sandbox {
    let size = Size {
        processes: 1,
        ..Size::default()
    };
    Sandbox::new(worker(), limits, size)
}

/// A worker of `sh` that says that it is ready, and does what `script` says when it is asked.
fn false_worker(script: &str, limits: Limits) -> Sandbox {
    let mut command = Command::new("/bin/sh");
    let ready = r#"printf '\015\000\000\000{"version":1}'"#;
    // Reads one frame.
    let read = "dd bs=65536 count=1 of=/dev/null 2>/dev/null";
    command.args(["-c", &format!("{read}; {ready}; {read}; {script}")]);
    Sandbox::new(command, limits, Size::default())
}

async fn read(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> Result<Parsed, Refusal> {
    sandbox.parse(bytes, &Declared::named(name)).await
}

/// The sandbox reads a good file.
async fn lives(sandbox: &Sandbox) {
    let parsed = read(sandbox, "good.md", b"# Good\n\nIt is read.")
        .await
        .unwrap();
    assert_eq!(parsed.text(), "Good\n\nIt is read.");
}

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    fs::read(folder.join(name)).unwrap()
}

#[tokio::test]
async fn a_worker_reads_what_the_parser_reads() {
    let sandbox = sandbox(Limits::default());
    for name in [
        "handbook.docx",
        "rules.pdf",
        "catch.xlsx",
        "attached.eml",
        "scan.pdf",
    ] {
        let bytes = file(name);
        let here = agentflow_rag::parse(&bytes, &Declared::named(name), sandbox.limits());
        assert_eq!(read(&sandbox, name, &bytes).await, here, "{name}");
        assert_eq!(sandbox.idle_workers().len(), 1, "it is reused");
    }
}

#[tokio::test]
async fn hostile_files_end_with_a_reason() {
    let limits = Limits {
        memory: 400 << 20,
        ..Limits::default()
    };
    let sandbox = sandbox(limits);
    for case in hostile::all() {
        let outcome = read(&sandbox, case.name, &case.bytes).await;
        let ends = match &outcome {
            Ok(parsed) => {
                assert!(parsed.blocks.iter().all(|block| !block.text.contains('\0')));
                format!(
                    "read: {} blocks, {:?}",
                    parsed.blocks.len(),
                    parsed.warnings
                )
            }
            Err(refusal) => format!("refused: {refusal}"),
        };
        println!("{}: {ends}", case.what);
        assert!(ends.contains(case.ends), "{}: {ends}", case.what);
        lives(&sandbox).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read() {
    let sandbox = sandbox(Limits::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.txt");
    fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    let refusal = sandbox
        .parse_file(&path, &Declared::named("sparse.txt"))
        .await;
    assert_eq!(
        refusal,
        Err(Refusal::TooLarge {
            bound: Bound::BytesIn,
            allowed: Limits::default().bytes_in,
            found: 2 << 30,
        })
    );
    assert!(sandbox.idle_workers().is_empty(), "no worker was asked");
    fs::write(&path, "small").unwrap();
    let parsed = sandbox
        .parse_file(&path, &Declared::named("small.txt"))
        .await;
    assert_eq!(parsed.unwrap().text(), "small");
}

#[tokio::test]
async fn memory_is_bounded() {
    let limits = Limits {
        memory: 32 << 20,
        ..Limits::default()
    };
    let sandbox = sandbox(limits);
    let outcome = read(&sandbox, "large.txt", &vec![b'a'; 80 << 20]).await;
    assert_eq!(outcome, Err(Refusal::OutOfMemory { allowed: 32 << 20 }));
    lives(&sandbox).await;
}

#[tokio::test]
async fn time_is_bounded() {
    let limits = Limits {
        time: Duration::from_millis(200),
        ..Limits::default()
    };
    let sandbox = false_worker("exec sleep 1000", limits);
    let outcome = read(&sandbox, "a.txt", b"a").await;
    let allowed = Duration::from_millis(200);
    assert_eq!(outcome, Err(Refusal::Timeout { allowed }));
    assert!(sandbox.idle_workers().is_empty());
}

#[tokio::test]
async fn processor_time_is_bounded() {
    let limits = Limits {
        cpu: Duration::from_secs(1),
        ..Limits::default()
    };
    let sandbox = false_worker("ulimit -S -t 1; while :; do :; done", limits);
    let outcome = read(&sandbox, "a.txt", b"a").await;
    let allowed = Duration::from_secs(1);
    assert_eq!(outcome, Err(Refusal::Timeout { allowed }));
}

#[tokio::test]
async fn a_crash_is_told() {
    for (script, message) in [
        ("kill -SEGV $$", "signal 11"),
        ("kill -KILL $$", "want of memory"),
        ("echo out of luck >&2; exit 3", "ended with 3; out of luck"),
        (
            "printf '\\377\\377\\377\\377'; exec sleep 1000",
            "bytes of text with its places",
        ),
    ] {
        let sandbox = false_worker(script, Limits::default());
        let refusal = read(&sandbox, "a.txt", b"a").await.unwrap_err();
        assert!(refusal.to_string().contains(message), "{script}: {refusal}");
    }
}

#[tokio::test]
async fn a_worker_that_does_not_start_blames_no_document() {
    let limits = Limits::default();
    for command in ["/no/such/program", "/bin/true"] {
        let sandbox = Sandbox::new(Command::new(command), limits.clone(), Size::default());
        let refusal = read(&sandbox, "a.txt", b"a").await.unwrap_err();
        assert!(refusal.may_pass_later(), "{refusal}");
    }
}

#[tokio::test]
async fn a_worker_that_died_in_between_is_replaced() {
    let sandbox = sandbox(Limits::default());
    lives(&sandbox).await;
    let [worker] = sandbox.idle_workers()[..] else {
        panic!("one worker waits");
    };
    let ended = Command::new("kill")
        .arg("-KILL")
        .arg(worker.to_string())
        .status();
    assert!(ended.unwrap().success());
    lives(&sandbox).await;
}

#[tokio::test]
async fn who_does_not_fit_into_the_queue_is_told() {
    let size = Size {
        processes: 1,
        waiting: 0,
    };
    let sandbox = Sandbox::new(worker(), Limits::default(), size);
    let (first, second) =
        tokio::join!(read(&sandbox, "a.txt", b"a"), read(&sandbox, "b.txt", b"b"));
    assert_eq!(first.unwrap().text(), "a");
    assert_eq!(second, Err(Refusal::Busy));
    lives(&sandbox).await;
}

#[tokio::test]
async fn a_cancelled_document_frees_its_place() {
    let size = Size {
        processes: 1,
        waiting: 0,
    };
    let sandbox = Sandbox::new(worker(), Limits::default(), size);
    let declared = Declared::named("a.txt");
    let nothing = tokio::time::timeout(Duration::ZERO, sandbox.parse(b"a", &declared)).await;
    assert!(nothing.is_err());
    lives(&sandbox).await;
}

/// A real file with a few other bytes, or with noise instead of its end.
#[derive(Clone, Debug)]
struct Damaged {
    name: &'static str,
    changes: Vec<(prop::sample::Index, u8)>,
    cut: Option<(prop::sample::Index, Vec<u8>)>,
}

impl Damaged {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = file(self.name);
        for (at, byte) in &self.changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some((at, noise)) = &self.cut {
            let at = at.index(bytes.len());
            bytes.splice(at.., noise.iter().copied());
        }
        bytes
    }
}

fn damaged() -> impl Strategy<Value = Damaged> {
    let names = [
        "handbook.docx",
        "tides.pptx",
        "catch.xlsx",
        "prices.xls",
        "office-handbook.doc",
        "letters.odt",
        "depths.ods",
        "knots.odp",
        "gull.epub",
        "rules.pdf",
        "readable.pdf",
        "attached.eml",
        "letter.rtf",
        "page.html",
        "guide.md",
        "station.json",
        "buoys.xml",
        "talk.vtt",
        "manual.rst",
        "plan.org",
        "crew.csv",
        "shiftjis.txt",
    ];
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
    let cut = prop::option::of((any::<prop::sample::Index>(), noise));
    (prop::sample::select(names.to_vec()), changes, cut).prop_map(|(name, changes, cut)| Damaged {
        name,
        changes,
        cut,
    })
}

#[test]
fn no_input_crashes_the_parser() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = sandbox(Limits::default());
    let config = ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ends = std::cell::Cell::new((0, 0));
    proptest!(config, |(damaged in damaged())| {
        let name = damaged.name;
        let outcome = runtime.block_on(read(&sandbox, name, &damaged.bytes()));
        // Libraries may ask for more memory than there is, or panic; nothing else goes wrong, and
        // the readers that are ours have no excuse.
        let theirs = [".pdf", ".eml", ".xlsx", ".xls", ".ods", ".doc"].iter().any(|it| name.ends_with(it));
        let calm = match &outcome {
            Err(Refusal::Crashed { .. } | Refusal::Timeout { .. }) => false,
            Err(Refusal::OutOfMemory { .. }) => theirs,
            Err(Refusal::Malformed { message, .. }) => theirs || !message.contains(GAVE_UP),
            _ => true,
        };
        ends.set(match &outcome {
            Ok(_) => (ends.get().0 + 1, ends.get().1),
            Err(_) => (ends.get().0, ends.get().1 + 1),
        });
        prop_assert!(calm, "{name}: {outcome:?}");
    });
    let (read, refused) = ends.get();
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
}
