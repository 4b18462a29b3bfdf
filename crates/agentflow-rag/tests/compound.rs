//! Messages of Outlook and presentations of before 2007, written here stream by stream.
#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};

use agentflow_rag::{Declared, Kind, Limits, Refusal, parse};
use cfb::CompoundFile;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn compound(streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut file = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
    for (name, bytes) in streams {
        if let Some((folder, _)) = name
            .rsplit_once('/')
            .filter(|(folder, _)| !folder.is_empty())
        {
            file.create_storage_all(folder).unwrap();
        }
        file.create_stream(name).unwrap().write_all(bytes).unwrap();
    }
    file.flush().unwrap();
    file.into_inner().into_inner()
}

#[test]
fn a_message_is_read_with_what_is_attached() {
    let attachment = "/__attach_version1.0_#00000000";
    let bytes = compound(&[
        ("/__properties_version1.0", vec![0; 32]),
        ("/__substg1.0_0037001F", utf16("The boat is late")),
        ("/__substg1.0_0C1A001F", utf16("Ada Berg")),
        ("/__substg1.0_5D01001F", utf16("ada@example.org")),
        ("/__substg1.0_0E04001E", b"Olaf".to_vec()),
        (
            "/__substg1.0_007D001F",
            utf16("Subject: x\r\nDate: Tue, 4 Mar 2025 06:30:00 +0100\r\n"),
        ),
        (
            "/__substg1.0_1000001F",
            utf16("Dear Olaf,\r\nfünf hours late.\r\n"),
        ),
        (
            &format!("{attachment}/__substg1.0_3707001F"),
            utf16("hours.csv"),
        ),
        (
            &format!("{attachment}/__substg1.0_37010102"),
            b"boat,hours\nMoewe,5\n".to_vec(),
        ),
    ]);
    let parsed = parse(&bytes, &Declared::named("late.msg"), &Limits::default()).unwrap();
    assert_eq!(
        (parsed.kind, parsed.title.as_deref()),
        (Kind::Msg, Some("The boat is late"))
    );
    assert_eq!(
        parsed.text(),
        "From: Ada Berg <ada@example.org>\nTo: Olaf\nDate: Tue, 4 Mar 2025 06:30:00 +0100\n\
         Subject: The boat is late\n\nDear Olaf,\nfünf hours late.\n\nboat | hours\nMoewe | 5"
    );
    assert_eq!(
        parsed.blocks[2].place.attachment.as_deref(),
        Some("hours.csv")
    );
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
}

#[test]
fn a_message_of_html_alone_is_read() {
    let bytes = compound(&[
        ("/__properties_version1.0", vec![0; 32]),
        (
            "/__substg1.0_10130102",
            b"<title>no</title><p>Only <b>here</b>.".to_vec(),
        ),
    ]);
    let parsed = parse(&bytes, &Declared::default(), &Limits::default()).unwrap();
    assert_eq!((parsed.text().as_str(), parsed.title), ("Only here.", None));
}

/// A record of a presentation.
fn record(version: u16, kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let head = [
        &version.to_le_bytes()[..],
        &kind.to_le_bytes(),
        &length.to_le_bytes(),
    ];
    [&head.concat(), body].concat()
}

fn presentation(user: [u8; 4]) -> Vec<u8> {
    let text = |kind: u32, text: &str| {
        let header = record(0, 0x0f9f, &kind.to_le_bytes());
        [header, record(0, 0x0fa0, &utf16(text))].concat()
    };
    let persist = record(0, 0x03f3, &[0; 20]);
    let listed = [
        persist.clone(),
        text(0, "Knots"),
        persist,
        text(0, "Bowline"),
    ]
    .concat();
    let narrow = record(0, 0x0fa8, b"It holds.\rIt opens.");
    let document = [
        record(0x1f, 0x0ff0, &text(1, "Click to edit")),
        record(0x0f, 0x0ff0, &listed),
    ];
    let stream = [
        record(0x0f, 0x03e8, &document.concat()),
        record(0x0f, 0x03f8, &text(0, "The master's title")),
        record(
            0x0f,
            0x03ee,
            &record(0x0f, 0x040c, &text(1, "Three are enough.")),
        ),
        record(
            0x0f,
            0x03ee,
            &[record(0x0f, 0x040c, &narrow), text(1, "*")].concat(),
        ),
        record(0x0f, 0x03f0, &text(2, "Say it slowly.")),
    ];
    compound(&[
        ("/Current User", [&[0; 12][..], &user].concat()),
        ("/PowerPoint Document", stream.concat()),
    ])
}

#[test]
fn slides_of_an_old_presentation_are_read() {
    let bytes = presentation([0x5f, 0xc0, 0x91, 0xe3]);
    let parsed = parse(&bytes, &Declared::named("knots.ppt"), &Limits::default()).unwrap();
    assert_eq!((parsed.kind, parsed.pages), (Kind::Ppt, Some(2)));
    let blocks: Vec<(Option<u32>, bool, &str)> = parsed
        .blocks
        .iter()
        .map(|block| (block.place.slide, block.heading, block.text.as_str()))
        .collect();
    assert_eq!(
        blocks,
        [
            (Some(1), true, "Knots"),
            (Some(1), false, "Three are enough."),
            (Some(2), true, "Bowline"),
            (Some(2), false, "It holds.\nIt opens."),
            (Some(2), false, "Say it slowly."),
        ]
    );
}

#[test]
fn an_old_presentation_with_a_password_is_refused() {
    let bytes = presentation([0xdf, 0xc4, 0xd1, 0xf3]);
    let refusal = parse(&bytes, &Declared::default(), &Limits::default()).unwrap_err();
    assert_eq!(refusal, Refusal::Encrypted { kind: Kind::Ppt });
}
