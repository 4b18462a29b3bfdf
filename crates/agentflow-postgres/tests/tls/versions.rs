//! The same checks on PostgreSQL 17, with a chain of authorities, and at a PgBouncer's door.

use super::*;

/// What a server shows instead of a good certificate, and the check that must notice.
type Fault = (fn(&Authority) -> Result<Identity>, &'static str);

const FAULTS: [Fault; 4] = [
    (Authority::expired_server, "certificate validity"),
    (Authority::early_server, "certificate validity"),
    (
        |authority| authority.server_named("elsewhere", &["db.example"]),
        "host name",
    ),
    (
        |authority| {
            let folder = authority.pem();
            let folder = folder.parent().expect("files are in a folder");
            Authority::new(folder, "stranger")?.server()
        },
        "certificate authority",
    ),
];

fn world(version: Version, hba: &[&str]) -> Result<World> {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "ca")?;
    let certificate = authority.server()?;
    let options = server::Options::new(version)
        .tls(&certificate, Some(&authority.pem()))
        .hba(hba);
    Ok(World::with(&options, authority, dir))
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).expect("a PEM file")
}

#[tokio::test]
async fn a_chain_and_a_client_certificate_on_every_version_direct_and_pooled() -> Result<()> {
    for version in Version::ENDS {
        let world = world(version, &MUTUAL)?;
        let between = world.authority.below("between")?;
        let (certificate, client) = (between.server()?, between.client("app")?);
        world
            .server
            .replace("server.key", &content(&certificate.key))?;
        world
            .server
            .replace("server.pem", &content(&certificate.cert))?;
        // Only the root is trusted, on both sides; the rest comes along.
        works(options(&world.url_of(&client))).await?;

        let root = world.authority.pem();
        let bouncer = Bouncer::start(
            &pgbouncer::Options::new(world.address().port)
                .client_tls(&certificate, Some(&root))
                .server_tls(&root, Some(&client)),
        )?;
        let pooled = bouncer.address();
        let demanded = verify_full(&root, &client);
        works(options(&pooled.url_with("app", &demanded))).await?;
        refused(
            works(options(&pooled.url_with("app", &demanded[..2]))).await,
            "client certificate",
        );
        refused(works(options(&pooled.url("app"))).await, "tls demanded");
    }
    Ok(())
}

#[tokio::test]
async fn seventeen_refuses_and_is_refused_like_the_others() -> Result<()> {
    let world = world(Version::V17, &MUTUAL)?;
    let client = world.authority.client("app")?;
    let url = world.url_of(&client);
    works(options(&url)).await?;
    for (certificate, check) in FAULTS {
        let certificate = certificate(&world.authority)?;
        world
            .server
            .replace("server.key", &content(&certificate.key))?;
        world
            .server
            .replace("server.pem", &content(&certificate.cert))?;
        refused(works(options(&url)).await, check);
    }
    let good = world.authority.server()?;
    world.server.replace("server.key", &content(&good.key))?;
    world.server.replace("server.pem", &content(&good.cert))?;
    refused(
        works(options(&world.url("verify-full"))).await,
        "client certificate",
    );
    let wrong = url.replace(APP_PASSWORD, "wrong");
    refused(works(options(&wrong)).await, "password");
    works(options(&url)).await
}

#[tokio::test]
async fn seventeen_with_an_old_protocol_or_none_is_refused() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "ca")?;
    let old = server::Options::new(Version::V17)
        .tls(&authority.server()?, None)
        .set("ssl_min_protocol_version", "TLSv1")
        .set("ssl_max_protocol_version", "TLSv1.1");
    let mut world = World::with(&old, authority, dir);
    refused(
        works(options(&world.url("verify-full"))).await,
        "tls version",
    );

    world
        .server
        .replace("postgresql.auto.conf", "ssl = off\n")?;
    world.server.restart()?;
    refused(
        works(options(&world.url("verify-full"))).await,
        "tls offered",
    );
    Ok(())
}

#[tokio::test]
async fn a_pooler_is_checked_like_a_server() -> Result<()> {
    let world = world(Version::Debian, &ANY)?;
    let root = world.authority.pem();
    let port = world.address().port;
    for (certificate, check) in FAULTS {
        let certificate = certificate(&world.authority)?;
        let pooler = pgbouncer::Options::new(port).client_tls(&certificate, None);
        let bouncer = Bouncer::start(&pooler)?;
        let parameters = [("sslmode", "verify-full"), ("sslrootcert", text(&root))];
        let url = bouncer.address().url_with("app", &parameters);
        refused(works(options(&url)).await, check);
    }
    let plain = Bouncer::start(&pgbouncer::Options::new(port))?;
    let parameters = [("sslmode", "verify-full"), ("sslrootcert", text(&root))];
    let url = plain.address().url_with("app", &parameters);
    refused(works(options(&url)).await, "tls offered");
    let old = pgbouncer::Options::new(port)
        .client_tls(&world.authority.server()?, None)
        .set("client_tls_protocols", "tlsv1.1");
    let old = Bouncer::start(&old)?;
    let url = old.address().url_with("app", &parameters);
    refused(works(options(&url)).await, "tls version");
    Ok(())
}
