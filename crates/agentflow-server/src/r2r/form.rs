//! The form by which documents are sent: as multipart (files, and everything by the JavaScript
//! client) or urlencoded (texts by the Python client).

use std::collections::BTreeMap;

use agentflow_rag::service::{Body, MAX_CHUNKS, Upload};
use agentflow_types::{Map, Value};
use axum::extract::{FromRequest, Multipart, Request};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::{
    AppState,
    error::{Failure, Misfit},
    extract::body_of,
};

/// Most bytes of a field that is no file and no text.
const MAX_FIELD_BYTES: usize = 4 << 20;
/// Most fields of a form.
const MAX_FIELDS: usize = 32;
/// Fields that may be as large as a file.
const LARGE: [&str; 2] = ["raw_text", "chunks"];

/// A form as it was sent.
#[derive(Default)]
pub(super) struct Form {
    fields: BTreeMap<String, String>,
    file: Option<(String, Option<String>, Vec<u8>)>,
    /// Its place among those that arrive, until it is stored.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

fn wrong(field: &str, text: &str) -> Failure {
    Misfit::of_body(field, text).into()
}

fn too_large(limit: usize) -> Failure {
    let text = format!("The document is larger than {limit} bytes.");
    Failure::Http(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn broken(err: &axum::extract::multipart::MultipartError) -> Failure {
    Failure::Http(StatusCode::BAD_REQUEST, err.body_text())
}

impl FromRequest<AppState> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_multipart = kind.starts_with("multipart/");
        let place = app.uploads.clone().acquire_owned().await.ok();
        let read = async {
            match is_multipart {
                true => Self::multipart(request, app).await,
                false => Self::urlencoded(request, app).await,
            }
        };
        // Who sends slowly must not keep the place from others.
        let read = tokio::time::timeout(app.limits.body_timeout, read).await;
        let late = || {
            let text = "the document did not arrive in time".to_owned();
            Failure::Http(StatusCode::REQUEST_TIMEOUT, text)
        };
        let form = read.map_err(|_| late())??;
        Ok(Self { place, ..form })
    }
}

impl Form {
    async fn multipart(request: Request, app: &AppState) -> Result<Self, Failure> {
        let limit = app.limits.upload_bytes;
        let multipart = Multipart::from_request(request, app).await;
        let mut multipart =
            multipart.map_err(|err| Failure::Http(StatusCode::BAD_REQUEST, err.body_text()))?;
        let mut form = Self::default();
        while let Some(mut field) = multipart.next_field().await.map_err(|err| broken(&err))? {
            let name = field.name().unwrap_or_default().to_owned();
            let (file, mime) = (
                field.file_name().map(str::to_owned),
                field.content_type().map(str::to_owned),
            );
            let is_large = name == "file" || LARGE.contains(&name.as_str());
            let most = if is_large { limit } else { MAX_FIELD_BYTES };
            let mut bytes = Vec::new();
            while let Some(part) = field.chunk().await.map_err(|err| broken(&err))? {
                if bytes.len() + part.len() > most {
                    return Err(too_large(most));
                }
                bytes.extend_from_slice(&part);
            }
            if name == "file" {
                let file = file.unwrap_or_else(|| "N/A".into());
                form.file = Some((file, mime, bytes));
                continue;
            }
            let text = String::from_utf8(bytes).map_err(|_| wrong(&name, "is not UTF-8"))?;
            form.put(name, text)?;
        }
        Ok(form)
    }

    async fn urlencoded(request: Request, app: &AppState) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let mut limits = (*app.limits).clone();
        limits.body_bytes = limits.upload_bytes;
        let bytes = body_of(&parts.headers, body, &limits).await?;
        let mut form = Self::default();
        for (name, text) in form_urlencoded::parse(&bytes) {
            form.put(name.into_owned(), text.into_owned())?;
        }
        Ok(form)
    }

    fn put(&mut self, name: String, text: String) -> Result<(), Failure> {
        if self.fields.len() >= MAX_FIELDS {
            return Err(wrong(&name, "too many fields"));
        }
        self.fields.insert(name, text);
        Ok(())
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let text = self.fields.get(name).filter(|text| !text.is_empty());
        let read = |text: &String| serde_json::from_str(text);
        text.map(read)
            .transpose()
            .map_err(|err| wrong(name, &format!("is not the JSON that it should be: {err}")))
    }

    /// The document that it describes.
    ///
    /// # Errors
    /// 422 with what is missing or wrong.
    pub(super) fn upload(mut self) -> Result<Upload, Failure> {
        let id = match self.fields.get("id").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                let parsed = text.parse::<Uuid>();
                Some(parsed.map_err(|_| wrong("id", "Input should be a valid UUID"))?)
            }
        };
        let metadata: Option<serde_json::Value> = self.json("metadata")?;
        let metadata = match metadata {
            None | Some(serde_json::Value::Null) => Map::new(),
            Some(json @ serde_json::Value::Object(_)) => Value::from_json(&json)
                .as_map()
                .cloned()
                .unwrap_or_default(),
            Some(_) => return Err(wrong("metadata", "is no object")),
        };
        let settings = self.json("ingestion_config")?.unwrap_or_default();
        let collections = self.json("collection_ids")?;
        let chunks: Option<Vec<String>> = self.json("chunks")?;
        let text = self
            .fields
            .remove("raw_text")
            .filter(|text| !text.is_empty());
        let mut bodies = Vec::new();
        bodies.extend(
            self.file
                .map(|(name, mime, bytes)| Body::File { name, mime, bytes }),
        );
        bodies.extend(text.map(Body::Text));
        bodies.extend(chunks.map(Body::Chunks));
        let http = |text: &str| Failure::Http(StatusCode::UNPROCESSABLE_ENTITY, text.into());
        let body = match (bodies.pop(), bodies.is_empty()) {
            (Some(body), true) => body,
            (None, _) => {
                let text = "Either a `file`, `raw_text`, or `chunks` must be provided.";
                return Err(http(text));
            }
            _ => {
                let text = "Only one of `file`, `raw_text`, or `chunks` may be provided.";
                return Err(http(text));
            }
        };
        if let Body::Chunks(chunks) = &body
            && chunks.len() > MAX_CHUNKS
        {
            let text = format!("Maximum of {MAX_CHUNKS} chunks per request");
            return Err(Failure::Http(StatusCode::BAD_REQUEST, text));
        }
        Ok(Upload {
            id,
            body,
            collections,
            metadata,
            settings,
        })
    }
}
