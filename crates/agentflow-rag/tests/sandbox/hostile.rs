//! Files that want to do harm, made here.

use std::io::{Cursor, Read, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// One file.
pub struct Case {
    pub what: &'static str,
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// What has to be said of its end.
    pub ends: &'static str,
}

fn case(
    what: &'static str,
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    ends: &'static str,
) -> Case {
    Case {
        what,
        name,
        bytes: bytes.into(),
        ends,
    }
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive in which one entry unpacks to so many megabytes of blanks.
fn blanks(name: &str, megabytes: usize) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    zip.start_file(name, options).unwrap();
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..megabytes {
        zip.write_all(&blanks).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn docx(body: &str) -> Vec<u8> {
    let text = format!("<w:document><w:body>{body}</w:body></w:document>");
    zip(&[("word/document.xml", text.as_bytes())])
}

/// A PDF of one page with a stream of content.
fn pdf(content: &[u8], filter: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    let mut object = |out: &mut Vec<u8>, body: &[u8]| {
        offsets.push(out.len());
        let number = offsets.len();
        out.extend(format!("{number} 0 obj\n").bytes());
        out.extend(body);
        out.extend(b"\nendobj\n");
    };
    object(&mut out, b"<< /Type /Catalog /Pages 2 0 R >>");
    object(&mut out, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
    object(
        &mut out,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R /Resources << >> >>",
    );
    let mut stream = format!("<< /Length {} {filter} >>\nstream\n", content.len()).into_bytes();
    stream.extend(content);
    stream.extend(b"\nendstream");
    object(&mut out, &stream);
    let at = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", offsets.len() + 1).bytes());
    for offset in &offsets {
        out.extend(format!("{offset:010} 00000 n \n").bytes());
    }
    let size = offsets.len() + 1;
    out.extend(format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{at}\n%%EOF\n").bytes());
    out
}

/// So many megabytes of blanks, packed.
fn deflated(megabytes: usize) -> Vec<u8> {
    let packed = blanks("x", megabytes);
    let mut archive = zip::ZipArchive::new(Cursor::new(packed)).unwrap();
    let mut raw = Vec::new();
    archive
        .by_index_raw(0)
        .unwrap()
        .read_to_end(&mut raw)
        .unwrap();
    raw
}

fn archives() -> Vec<Case> {
    let mut nested = zip(&[("a.txt", b"hello".as_slice())]);
    for _ in 0..50 {
        nested = zip(&[("inner.zip", &nested)]);
    }
    let names: Vec<String> = (0..20_000).map(|number| format!("word/{number}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let good = "<w:p><w:r><w:t>Safe.</w:t></w:r></w:p>";
    let text = format!("<w:document><w:body>{good}</w:body></w:document>");
    let traversal = zip(&[
        (
            "../../../../etc/cron.d/evil",
            b"* * * * * root evil".as_slice(),
        ),
        ("word/document.xml", text.as_bytes()),
    ]);
    let mut cut = docx(good);
    cut.truncate(cut.len() / 2);
    vec![
        case(
            "a bomb",
            "bomb.docx",
            blanks("word/document.xml", 300),
            "times the size of the file",
        ),
        case(
            "a bomb in a workbook",
            "bomb.xlsx",
            blanks("xl/sheet.xml", 300),
            "times the size of the file",
        ),
        case(
            "archives in archives",
            "nested.zip",
            nested.clone(),
            "is a zip archive",
        ),
        case(
            "archives in a document",
            "nested.docx",
            nested,
            "holds no such document",
        ),
        case(
            "many entries",
            "many.docx",
            zip(&many),
            "20000 entries of the archive",
        ),
        case(
            "names that lead out",
            "out.docx",
            traversal,
            "leads out of it",
        ),
        case("half an archive", "half.docx", cut, "no archive"),
        case(
            "an archive that is empty",
            "empty.zip",
            zip(&[]),
            "is a zip archive",
        ),
    ]
}

fn depths() -> Vec<Case> {
    let deep = 200_000;
    let tables = "<w:tbl><w:tr><w:tc>".repeat(deep);
    let html = format!("{}deep{}", "<div>".repeat(deep), "</div>".repeat(deep));
    let xml = format!("<?xml version='1.0'?>{}", "<a>".repeat(deep));
    let mut mail = b"Subject: deep\r\n\r\nbottom".to_vec();
    for _ in 0..40 {
        let head = b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\n";
        mail = [&head[..], &mail[..]].concat();
    }
    let boundaries: String = (0..5_000)
        .map(|at| format!("Content-Type: multipart/mixed; boundary=b{at}\r\n\r\n--b{at}\r\n"))
        .collect();
    let arrays = pdf(
        format!("{}{} Tj", "[".repeat(deep), "]".repeat(deep)).as_bytes(),
        "",
    );
    vec![
        case(
            "deep JSON",
            "deep.json",
            "[".repeat(deep),
            "levels of nesting",
        ),
        case(
            "deep JSON, well formed",
            "deep.json",
            "[".repeat(500) + &"]".repeat(500),
            "nesting",
        ),
        case("deep HTML", "deep.html", html, "read: 1 blocks"),
        case("deep XML", "deep.xml", xml, "201 levels of nesting"),
        case(
            "deep tables",
            "deep.docx",
            docx(&tables),
            "201 levels of nesting",
        ),
        case(
            "deep RTF",
            "deep.rtf",
            "{\\rtf1 ".to_owned() + &"{".repeat(deep),
            "nesting",
        ),
        case(
            "deep Markdown",
            "deep.md",
            ">".repeat(100_000) + " a",
            "read: 1 blocks",
        ),
        case(
            "deep lists",
            "list.md",
            "* ".repeat(20_000) + "a",
            "read: 1 blocks",
        ),
        case(
            "brackets",
            "brackets.md",
            "[".repeat(100_000),
            "read: 1 blocks",
        ),
        case(
            "emphasis",
            "stars.md",
            "*a_ ".repeat(50_000),
            "read: 1 blocks",
        ),
        case("mail in mail", "deep.eml", mail, "read: "),
        case(
            "parts in parts",
            "parts.eml",
            "Subject: a\r\n".to_owned() + &boundaries,
            "read: ",
        ),
        case("deep PDF", "deep.pdf", arrays, "refused: "),
    ]
}

fn entities() -> Vec<Case> {
    let mut laughs = String::from("<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol0 'lol'>");
    for at in 1..30 {
        let more = format!("&lol{};", at - 1).repeat(10);
        laughs += &format!("<!ENTITY lol{at} '{more}'>");
    }
    laughs += "]><lolz>&lol29; and <b>text</b></lolz>";
    let external = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\
                    <a>&x; stays</a>";
    vec![
        case(
            "entities that grow",
            "laughs.xml",
            laughs,
            "were not replaced",
        ),
        case(
            "an entity of a file",
            "external.xml",
            external,
            "were not replaced",
        ),
    ]
}

fn pages() -> Vec<Case> {
    let file = super::file;
    let rules = file("rules.pdf");
    let bomb = pdf(
        &[&[0x78, 0x9c][..], &deflated(500)].concat(),
        "/Filter /FlateDecode",
    );
    let loops = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n\
        << /Type /Pages /Kids [2 0 R 2 0 R] /Count 9999999 >>\nendobj\n\
        trailer << /Size 3 /Root 1 0 R >>\n%%EOF";
    vec![
        case(
            "a locked PDF",
            "locked.pdf",
            file("locked.pdf"),
            "opens with a password only",
        ),
        case(
            "half a PDF",
            "half.pdf",
            &rules[..rules.len() / 2],
            "cannot be read as PDF",
        ),
        case(
            "the start of a PDF",
            "start.pdf",
            &b"%PDF-1.7\n"[..],
            "cannot be read as PDF",
        ),
        case("a PDF that grows", "bomb.pdf", bomb, "refused: "),
        case(
            "a PDF in a circle",
            "loop.pdf",
            &loops[..],
            "cannot be read as PDF",
        ),
    ]
}

fn texts() -> Vec<Case> {
    let long = "word and ".repeat((10 << 20) / 9);
    let wide = "x,".repeat(1_000_000);
    let too_wide = ",".repeat(2_500_000);
    let million = format!("{}{}", "1;".repeat(999_999), "1\n");
    vec![
        case(
            "NUL bytes",
            "nul.txt",
            &b"a\0b\0c and more text\n"[..],
            "NUL characters were left out",
        ),
        case("only NUL bytes", "nul.txt", vec![0; 100_000], "refused: "),
        case("a long line", "line.txt", long.clone(), "read: 1 blocks"),
        case(
            "a long line of Markdown",
            "line.md",
            long.clone(),
            "read: 1 blocks",
        ),
        case(
            "a long line of HTML",
            "line.html",
            format!("<p>{long}"),
            "read: 1 blocks",
        ),
        case(
            "a long word",
            "word.csv",
            "a".repeat(10 << 20),
            "read: 1 blocks",
        ),
        case("a million columns", "wide.csv", wide, "read: 1 blocks"),
        case(
            "a million columns, another way",
            "wide.csv",
            million,
            "read: 1 blocks",
        ),
        case(
            "more columns than cells",
            "wide.csv",
            too_wide,
            "2500001 cells or more",
        ),
        case(
            "a quote that never ends",
            "quote.csv",
            "\"".to_owned() + &long,
            "read: 1 blocks",
        ),
        case(
            "too much text",
            "much.txt",
            "a ".repeat(20 << 20),
            "bytes of text or more",
        ),
        case("nothing", "empty.txt", "", "the file is empty"),
        case("blanks", "blank.txt", " \n\t\n ", "holds no text"),
        case(
            "a program",
            "tool.exe",
            &b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0"[..],
            "cannot be read",
        ),
        case(
            "noise as PDF",
            "noise.pdf",
            [0x9f, 1, 2, 3, 0, 200, 7].repeat(100),
            "not of that",
        ),
        case(
            "noise as text",
            "noise.txt",
            [0x9f, 1, 2, 3, 0, 200, 7].repeat(100),
            "binary data",
        ),
        case(
            "a name that leads out",
            "../../../etc/passwd",
            &b"text"[..],
            "read: 1 blocks",
        ),
    ]
}

pub fn all() -> impl Iterator<Item = Case> {
    let parts: [fn() -> Vec<Case>; 5] = [archives, depths, entities, pages, texts];
    parts.into_iter().flat_map(|part| part())
}
