//! The kinds of files that are known, with their extensions and media types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Portable Document Format.
    Pdf,
    /// Word, since 2007.
    Docx,
    /// PowerPoint, since 2007.
    Pptx,
    /// Excel, since 2007.
    Xlsx,
    /// Excel, binary parts in an archive.
    Xlsb,
    /// Excel, before 2007.
    Xls,
    /// Word, before 2007.
    Doc,
    /// PowerPoint, before 2007.
    Ppt,
    /// A message of Outlook.
    Msg,
    /// OpenDocument spreadsheet.
    Ods,
    /// OpenDocument text.
    Odt,
    /// OpenDocument presentation.
    Odp,
    /// HTML and XHTML.
    Html,
    /// CommonMark with tables.
    Markdown,
    /// Electronic book.
    Epub,
    /// A message as mail servers exchange it.
    Email,
    /// Values separated by commas, semicolons or bars.
    Csv,
    /// Values separated by tabs.
    Tsv,
    /// One JSON value.
    Json,
    /// One JSON value per line.
    JsonLines,
    /// Rich Text Format.
    Rtf,
    /// Text without markup.
    Text,
    /// reStructuredText.
    Rst,
    /// Emacs Org.
    Org,
    /// XML of no kind that is known better.
    Xml,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
    /// Source code and configuration, kept as it is.
    Code,
    /// A picture.
    Image,
    /// A recording of sound.
    Audio,
}

/// What is known of one kind.
struct Row {
    kind: Kind,
    name: &'static str,
    /// Lower case, the usual one first.
    extensions: &'static [&'static str],
    /// The usual one first.
    mimes: &'static [&'static str],
}

const fn row(
    kind: Kind,
    name: &'static str,
    extensions: &'static [&'static str],
    mimes: &'static [&'static str],
) -> Row {
    Row {
        kind,
        name,
        extensions,
        mimes,
    }
}

const TABLE: [Row; 30] = [
    row(
        Kind::Pdf,
        "PDF",
        &["pdf"],
        &["application/pdf", "application/x-pdf"],
    ),
    row(
        Kind::Docx,
        "Word document",
        &["docx", "docm", "dotx"],
        &["application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
    ),
    row(
        Kind::Pptx,
        "PowerPoint presentation",
        &["pptx", "pptm", "ppsx", "potx"],
        &["application/vnd.openxmlformats-officedocument.presentationml.presentation"],
    ),
    row(
        Kind::Xlsx,
        "Excel workbook",
        &["xlsx", "xlsm", "xltx"],
        &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"],
    ),
    row(
        Kind::Xlsb,
        "Excel binary workbook",
        &["xlsb"],
        &["application/vnd.ms-excel.sheet.binary.macroenabled.12"],
    ),
    row(
        Kind::Xls,
        "Excel 97 workbook",
        &["xls"],
        &["application/vnd.ms-excel"],
    ),
    row(
        Kind::Doc,
        "Word 97 document",
        &["doc", "dot"],
        &["application/msword"],
    ),
    row(
        Kind::Ppt,
        "PowerPoint 97 presentation",
        &["ppt", "pps"],
        &["application/vnd.ms-powerpoint"],
    ),
    row(
        Kind::Msg,
        "Outlook message",
        &["msg"],
        &["application/vnd.ms-outlook"],
    ),
    row(
        Kind::Ods,
        "OpenDocument spreadsheet",
        &["ods", "ots"],
        &["application/vnd.oasis.opendocument.spreadsheet"],
    ),
    row(
        Kind::Odt,
        "OpenDocument text",
        &["odt", "ott"],
        &["application/vnd.oasis.opendocument.text"],
    ),
    row(
        Kind::Odp,
        "OpenDocument presentation",
        &["odp", "otp"],
        &["application/vnd.oasis.opendocument.presentation"],
    ),
    row(
        Kind::Html,
        "HTML",
        &["html", "htm", "xhtml"],
        &["text/html", "application/xhtml+xml"],
    ),
    row(
        Kind::Markdown,
        "Markdown",
        &["md", "markdown", "mdown", "mkd"],
        &["text/markdown", "text/x-markdown"],
    ),
    row(Kind::Epub, "EPUB", &["epub"], &["application/epub+zip"]),
    row(Kind::Email, "e-mail", &["eml"], &["message/rfc822"]),
    row(Kind::Csv, "CSV", &["csv"], &["text/csv"]),
    row(
        Kind::Tsv,
        "TSV",
        &["tsv", "tab"],
        &["text/tab-separated-values"],
    ),
    row(
        Kind::Json,
        "JSON",
        &["json", "geojson"],
        &["application/json", "text/json"],
    ),
    row(
        Kind::JsonLines,
        "JSON lines",
        &["jsonl", "ndjson"],
        &["application/jsonl", "application/x-ndjson"],
    ),
    row(Kind::Rtf, "RTF", &["rtf"], &["application/rtf", "text/rtf"]),
    row(Kind::Text, "text", &["txt", "text", "log"], &["text/plain"]),
    row(
        Kind::Rst,
        "reStructuredText",
        &["rst", "rest"],
        &["text/x-rst"],
    ),
    row(Kind::Org, "Org", &["org"], &["text/org", "text/x-org"]),
    row(
        Kind::Xml,
        "XML",
        &["xml", "rss", "atom"],
        &["application/xml", "text/xml"],
    ),
    row(
        Kind::Srt,
        "SubRip subtitles",
        &["srt"],
        &["application/x-subrip"],
    ),
    row(Kind::Vtt, "WebVTT subtitles", &["vtt"], &["text/vtt"]),
    row(
        Kind::Code,
        "source code",
        &[
            "py", "js", "ts", "css", "rs", "go", "java", "c", "h", "cc", "cpp", "hpp", "cs", "rb",
            "php", "swift", "kt", "kts", "scala", "sh", "bash", "zsh", "sql", "r", "lua", "pl",
            "jsx", "tsx", "mjs", "vue", "svelte", "scss", "less", "yaml", "yml", "toml", "ini",
            "cfg", "conf", "tex", "proto", "graphql", "dart", "ex", "exs", "erl", "hs", "clj",
            "jl", "m", "ps1", "bat", "gradle", "tf",
        ],
        &[
            "text/x-python",
            "text/javascript",
            "application/javascript",
            "text/css",
            "application/yaml",
            "application/toml",
            "application/sql",
            "text/x-rust",
        ],
    ),
    row(
        Kind::Image,
        "image",
        &[
            "png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "heic", "heif", "webp", "svg",
            "avif", "ico",
        ],
        &["image/png", "image/jpeg"],
    ),
    row(
        Kind::Audio,
        "audio",
        &[
            "mp3", "wav", "m4a", "ogg", "oga", "flac", "aac", "opus", "aiff", "amr",
        ],
        &["audio/mpeg"],
    ),
];

impl Kind {
    /// All kinds, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.kind == self)
            .expect("each kind has a row: a test goes through them")
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Extensions in lower case and without a dot, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        self.row().extensions
    }

    /// The usual media type.
    pub fn mime(self) -> &'static str {
        self.row().mimes[0]
    }

    /// The kind that an extension stands for, in any case and without a dot.
    pub fn of_extension(extension: &str) -> Option<Self> {
        let extension = extension.to_ascii_lowercase();
        TABLE
            .iter()
            .find(|row| row.extensions.contains(&extension.as_str()))
            .map(|row| row.kind)
    }

    /// The kind that a media type stands for; parameters are passed over.
    pub fn of_mime(mime: &str) -> Option<Self> {
        let mime = mime.split(';').next().unwrap_or_default().trim();
        let mime = mime.to_ascii_lowercase();
        if let Some(row) = TABLE.iter().find(|row| row.mimes.contains(&mime.as_str())) {
            return Some(row.kind);
        }
        match mime.split_once('/')?.0 {
            "image" => Some(Self::Image),
            "audio" => Some(Self::Audio),
            _ => None,
        }
    }

    /// Whether files of this kind are text that people can read in an editor.
    pub fn is_textual(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Html | Markdown
                | Email
                | Csv
                | Tsv
                | Json
                | JsonLines
                | Rtf
                | Text
                | Rst
                | Org
                | Xml
                | Srt
                | Vtt
                | Code
        )
    }

    /// Whether a model is needed to turn it into text.
    pub fn needs_model(self) -> bool {
        matches!(self, Self::Image | Self::Audio)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_extensions_and_media_type() {
        let mut extensions = std::collections::BTreeSet::new();
        for kind in Kind::all() {
            for extension in kind.extensions() {
                assert!(
                    extensions.insert(extension),
                    "{extension} stands for one kind"
                );
                assert_eq!(Kind::of_extension(&extension.to_uppercase()), Some(kind));
            }
            let mime = format!("{}; charset=utf-8", kind.mime().to_uppercase());
            assert_eq!(Kind::of_mime(&mime), Some(kind));
        }
        assert_eq!(Kind::all().count(), TABLE.len());
        assert_eq!(Kind::of_mime("image/x-unheard-of"), Some(Kind::Image));
        assert_eq!(Kind::of_extension("exe"), None);
    }
}
