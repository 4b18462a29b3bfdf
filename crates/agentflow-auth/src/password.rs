//! Passwords: slow hashes, made and checked away from the threads that serve.

use std::sync::Arc;

use agentflow_types::{Error, Result};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use tokio::sync::Semaphore;

/// Hashes at once; each takes 19 MiB and a core for a while.
const AT_ONCE: usize = 4;
/// Most bytes of a password.
pub(crate) const MAX_BYTES: usize = 1024;
/// A hash that no password has, with the cost of a real one.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA\
    $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Makes and checks hashes.
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// The hash of a password, with its salt and cost.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        self.slowly(move || {
            Argon2::default()
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|err| Error::bug("a password could not be hashed").with("reason", err))
        })
        .await
    }

    /// Whether the password has this hash. Without a hash it takes as long, so that nobody
    /// learns which users exist.
    pub(crate) async fn check(&self, password: String, hash: Option<String>) -> Result<bool> {
        self.slowly(move || {
            let wanted = hash.as_deref().unwrap_or(NOBODYS);
            let same = Argon2::default().verify_password(password.as_bytes(), wanted);
            Ok(same.is_ok() && hash.is_some())
        })
        .await
    }

    async fn slowly<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Error::busy("the server is stopping"))?;
        let done = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(place);
            result
        });
        done.await
            .map_err(|err| Error::bug("hashing a password panicked").source_err(err))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_has_its_hash() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let check = |password: &str, hash: Option<&str>| {
            passwords.check(password.to_owned(), hash.map(str::to_owned))
        };
        assert!(check("correct horse", Some(&hash)).await.unwrap());
        assert!(!check("correct horsf", Some(&hash)).await.unwrap());
        assert!(!check("", Some(&hash)).await.unwrap());
        assert!(!check("correct horse", None).await.unwrap());
        assert!(!check("correct horse", Some("nonsense")).await.unwrap());
        let again = passwords.hash("correct horse".into()).await.unwrap();
        assert_ne!(hash, again, "each hash has its own salt");
    }
}
