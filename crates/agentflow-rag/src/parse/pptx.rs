//! PowerPoint presentations: slides in their order, titles as headings, tables, notes.

use super::{
    archive::{Archive, resolve},
    blocks::{Writer, join_cells},
    docx::relations,
    xml::{Node, Steps, facts},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Pptx;
const MAIN: &str = "ppt/presentation.xml";

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut archive = Archive::open(KIND, bytes, out.meter)?;
    archive.warn(out);
    if let Some(core) = archive.text("docProps/core.xml", out.meter)? {
        facts(KIND, &core, out)?;
    }
    let slides = slides(&mut archive, out)?;
    out.meter.pages(slides.len() as u64)?;
    out.pages = u32::try_from(slides.len()).ok();
    for (number, name) in (1..).zip(&slides) {
        let Some(text) = archive.text(name, out.meter)? else {
            out.warn(format!("slide {number} is missing"));
            continue;
        };
        out.place.slide = Some(number);
        out.below(&[]);
        shapes(&text, Part::Slide, out)?;
        if let Some(notes) = notes(&mut archive, name, out)?
            && let Some(text) = archive.text(&notes, out.meter)?
        {
            shapes(&text, Part::Notes, out)?;
        }
    }
    out.place.slide = None;
    Ok(())
}

/// Names of the parts of slides, in the order of the presentation.
fn slides(archive: &mut Archive<'_>, out: &mut Writer<'_, '_>) -> Result<Vec<String>, Refusal> {
    let text = archive.need_text(MAIN, out.meter)?;
    let related = archive.need_text("ppt/_rels/presentation.xml.rels", out.meter)?;
    let related = relations(KIND, &related, out)?;
    let mut steps = Steps::new(KIND, &text, out.meter);
    let mut slides = Vec::new();
    loop {
        match steps.next()? {
            Node::Start(element) if element.name() == "sldId" => {
                let id = element.prefixed("r:id").unwrap_or_default();
                if let Some((_, target)) = related.get(&id) {
                    slides.push(resolve(MAIN, target));
                }
            }
            Node::Eof => return Ok(slides),
            _ => {}
        }
    }
}

/// Name of the part with a slide's notes.
fn notes(
    archive: &mut Archive<'_>,
    slide: &str,
    out: &mut Writer<'_, '_>,
) -> Result<Option<String>, Refusal> {
    let (folder, file) = slide.rsplit_once('/').unwrap_or(("", slide));
    let name = format!("{folder}/_rels/{file}.rels");
    let Some(text) = archive.text(&name, out.meter)? else {
        return Ok(None);
    };
    let related = relations(KIND, &text, out)?;
    let notes = related
        .into_values()
        .find(|(kind, _)| kind.ends_with("/notesSlide"));
    Ok(notes.map(|(_, target)| resolve(slide, &target)))
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Slide,
    Notes,
}

/// Texts of all shapes of a part. Of notes, only the notes themselves: not the slide's number.
fn shapes(text: &str, part: Part, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut steps = Steps::new(KIND, text, out.meter);
    let (mut shape, mut placeholder) = (String::new(), String::new());
    let (mut row, mut rows): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        match steps.next()? {
            Node::Start(element) => match element.name().as_str() {
                "sp" => {
                    shape.clear();
                    placeholder.clear();
                }
                "ph" => placeholder = element.attribute("type").unwrap_or("body".into()),
                "t" => shape.push_str(&steps.inner_text()?),
                "br" => shape.push('\n'),
                "Fallback" => steps.skip()?,
                _ => {}
            },
            Node::End(name) => match name.as_str() {
                "p" => shape.push('\n'),
                "tc" => row.push(std::mem::take(&mut shape)),
                "tr" => {
                    out.meter.cells(row.len() as u64)?;
                    rows.push(join_cells(row.iter().map(String::as_str)));
                    row.clear();
                }
                "tbl" => {
                    rows.retain(|row| !row.is_empty());
                    out.paragraph(&rows.join("\n"))?;
                    rows.clear();
                }
                "sp" => {
                    let text = std::mem::take(&mut shape);
                    let title = matches!(placeholder.as_str(), "title" | "ctrTitle");
                    let furniture = matches!(placeholder.as_str(), "sldNum" | "dt" | "ftr" | "hdr");
                    match part {
                        _ if furniture => {}
                        Part::Slide if title => out.heading(1, &text)?,
                        Part::Notes if placeholder != "body" => {}
                        _ => out.lines(&text)?,
                    }
                }
                _ => {}
            },
            Node::Text(_) => {}
            Node::Eof => return Ok(()),
        }
    }
}
