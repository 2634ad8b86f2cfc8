//! `docker-compose.yml` is checked as text: no engine runs where the tests do.

use std::path::Path;

use crate::support::s3::WEED_FLAGS;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn images_are_pinned_and_nothing_listens_beyond_loopback() {
    let compose = read("docker-compose.yml");
    let values = |key: &str| -> Vec<String> {
        let found =
            compose.lines().filter_map(|line| line.trim().strip_prefix(key)).map(|value| value.trim().to_owned());
        found.collect()
    };
    let images = values("image:");
    assert_eq!(images.len(), 9, "a source, a store, lifeboat three times, a catalog, three that watch: {images:?}");
    for image in images {
        let (_, tag) = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        let tag = tag.trim_start_matches('v');
        assert!(tag.chars().next().unwrap().is_ascii_digit() && tag.contains('.'), "{image} is not pinned");
    }
    let mut ports = 0;
    for line in compose.lines().map(str::trim).filter(|line| line.starts_with("- \"") && line.matches(':').count() == 2)
    {
        assert!(line.starts_with("- \"127.0.0.1:"), "{line}");
        ports += 1;
    }
    assert_eq!(ports, 6);
    for line in read("deploy/Dockerfile").lines().filter(|line| line.starts_with("FROM")) {
        assert!(line.contains(':') && !line.contains("latest"), "{line}");
    }
    let version = format!("image: lifeboat:{}", env!("CARGO_PKG_VERSION"));
    assert!(compose.contains(&version), "the image has this crate's version");
}

#[test]
fn its_s3_server_is_started_as_that_of_the_tests() {
    let compose = read("docker-compose.yml");
    for flag in WEED_FLAGS {
        assert!(compose.lines().any(|line| line.trim() == format!("- {flag}")), "{flag}");
    }
    assert!(read("deploy/s3-servers.sh").contains("weed=4.48") && compose.contains("seaweedfs:4.48"), "one version");
}
