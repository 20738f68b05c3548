//! What each engine is run as: image, command, port, and the versions that this policy knows.

use crate::cache::DUMP;

/// The engines, apart from their WIT spelling so that this module can be tested on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Valkey,
    Memcached,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Redis, Kind::Valkey, Kind::Memcached];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Redis => "redis",
            Kind::Valkey => "valkey",
            Kind::Memcached => "memcached",
        }
    }

    pub fn from_label(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it keeps data, and so has a volume, snapshots and a command-line client.
    pub fn keeps_data(self) -> bool {
        self != Kind::Memcached
    }

    pub fn port(self) -> u16 {
        match self {
            Kind::Redis | Kind::Valkey => 6379,
            Kind::Memcached => 11211,
        }
    }

    /// The client program in the image.
    pub fn client(self) -> Option<&'static str> {
        match self {
            Kind::Redis => Some("redis-cli"),
            Kind::Valkey => Some("valkey-cli"),
            Kind::Memcached => None,
        }
    }

    /// The name of the setting that overrides the image.
    pub fn image_setting(self) -> &'static str {
        match self {
            Kind::Redis => "image.redis",
            Kind::Valkey => "image.valkey",
            Kind::Memcached => "image.memcached",
        }
    }

    /// The command of the container: data in `folder`, kept as `options` say.
    ///
    /// Protected mode would refuse every client that comes through a published port.
    pub fn command(self, folder: &str, options: &[&str]) -> Vec<String> {
        let fixed = ["--protected-mode", "no", "--rdbchecksum", "yes", "--dbfilename", DUMP, "--dir", folder];
        let (fixed, options) = match self {
            Kind::Redis | Kind::Valkey => (&fixed[..], options),
            Kind::Memcached => (&[][..], &[][..]),
        };
        let program = match self {
            Kind::Redis => "redis-server",
            Kind::Valkey => "valkey-server",
            Kind::Memcached => "memcached",
        };
        std::iter::once(program).chain(fixed.iter().chain(options).copied()).map(str::to_owned).collect()
    }
}

/// Whether an engine can load an RDB file of that format. Valkey numbers its own formats from 80; of the
/// others it knows those up to 11.
pub fn can_load(kind: Kind, rdb_version: u32) -> bool {
    match kind {
        Kind::Redis => rdb_version < 80,
        Kind::Valkey => rdb_version <= 11 || rdb_version >= 80,
        Kind::Memcached => false,
    }
}

/// The image for an engine and a version as ElastiCache writes it.
///
/// # Errors
/// The reason, if the version is malformed or none that this policy runs.
pub fn image(kind: Kind, version: Option<&str>) -> Result<String, String> {
    let (repository, default_tag, majors): (_, _, &[u32]) = match kind {
        Kind::Redis => ("redis", "7", &[7, 8]),
        Kind::Valkey => ("valkey/valkey", "8", &[7, 8, 9]),
        Kind::Memcached => ("memcached", "1.6", &[1]),
    };
    let Some(version) = version else {
        return Ok(format!("{repository}:{default_tag}-alpine"));
    };
    let numbers: Option<Vec<u32>> = version.split('.').map(number).collect();
    let known = majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    match numbers.as_deref() {
        Some([major, rest @ ..]) if rest.len() <= 2 => {
            if !majors.contains(major) {
                return Err(format!(
                    "{version:?} is no version of {} known here: majors {known}",
                    kind.as_str()
                ));
            }
            // ElastiCache numbers one release of redis 7 by itself; the project never published it.
            let tag =
                if kind == Kind::Redis && (*major, rest.first()) == (7, Some(&1)) { "7" } else { version };
            Ok(format!("{repository}:{tag}-alpine"))
        }
        _ => Err(format!("{version:?} is no version: write it like {default_tag} or {default_tag}.0")),
    }
}

/// Digits only: `parse` alone would also take `+7`.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_version_gives_the_default_image() {
        assert_eq!(image(Kind::Redis, None).unwrap(), "redis:7-alpine");
        assert_eq!(image(Kind::Valkey, None).unwrap(), "valkey/valkey:8-alpine");
        assert_eq!(image(Kind::Memcached, None).unwrap(), "memcached:1.6-alpine");
    }

    #[test]
    fn a_format_that_an_engine_cannot_load_is_known_beforehand() {
        assert!(can_load(Kind::Redis, 10) && can_load(Kind::Valkey, 10) && can_load(Kind::Valkey, 80));
        assert!(!can_load(Kind::Redis, 80) && !can_load(Kind::Valkey, 12));
    }

    #[test]
    fn a_version_becomes_the_tag() {
        assert_eq!(image(Kind::Redis, Some("7.2.4")).unwrap(), "redis:7.2.4-alpine");
        assert_eq!(image(Kind::Valkey, Some("8.0")).unwrap(), "valkey/valkey:8.0-alpine");
        assert_eq!(image(Kind::Redis, Some("7.1")).unwrap(), "redis:7-alpine");
    }

    #[test]
    fn what_is_no_version_is_refused_with_a_reason() {
        for version in ["", "latest", "7.", "7.0.0.0", "+7", "7 ", "-1", "99999999999", "7/../x"] {
            assert!(image(Kind::Redis, Some(version)).is_err(), "{version:?}");
        }
        assert!(image(Kind::Redis, Some("3.2")).unwrap_err().contains("7, 8"));
    }

    #[test]
    fn options_are_for_engines_that_keep_data() {
        let command = Kind::Valkey.command("/tmp", &["--save", ""]).join(" ");
        assert!(
            command.starts_with("valkey-server ") && command.ends_with("--dir /tmp --save "),
            "{command}"
        );
        assert_eq!(Kind::Memcached.command("/tmp", &["--save", ""]), ["memcached"]);
    }
}
