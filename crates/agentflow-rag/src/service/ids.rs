//! Ids that follow from what they name, as R2R forms them (`uuid5` in the namespace of names).

use uuid::Uuid;

fn named(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes())
}

/// The id of a user by address.
#[must_use]
pub fn user(email: &str) -> Uuid {
    named(email)
}

/// The collection that a user's documents are in unless another one is named.
#[must_use]
pub fn default_collection(user: Uuid) -> Uuid {
    named(&user.to_string())
}

/// The document that a user makes of a file of this name, or of this text.
#[must_use]
pub fn document(name: &str, user: Uuid) -> Uuid {
    named(&format!("{}-{user}", name.replace('/', "_")))
}

/// A chunk of one upload of a document.
///
/// Unlike R2R's it names tenant and upload too: an index holds the chunks of all tenants, and one
/// of a document that was replaced must not look like one of its successor.
#[must_use]
pub fn chunk(tenant: &str, document: Uuid, upload: Uuid, number: u64) -> Uuid {
    named(&format!("{tenant}/{document}/{upload}/{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_collections_are_those_of_the_peer() {
        let admin = user("admin@example.com");
        assert_eq!(admin.to_string(), "2acb499e-8428-543b-bd85-0d9098718220");
        let own = default_collection(admin);
        assert_eq!(own.to_string(), "122fdf6a-e116-546b-a8f6-e4cb2e2c0a09");
    }
}
